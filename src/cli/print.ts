/**
 * Prints to stdout. What a reader no longer wants, such as `| head -1`, is dropped: the command still does its work and
 * exits with the code that tells how it ended.
 */
export function print(text: string): void {
  const { stdout } = process;
  if (stdout.listenerCount('error') === 0) stdout.on('error', dropUnread);
  stdout.write(text);
}

function dropUnread(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}
