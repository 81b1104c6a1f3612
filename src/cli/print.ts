/**
 * Prints to stdout. Once the reader is gone, as after `| head -1`, the rest is dropped: the command still does its work
 * and exits with the code that tells how it ended.
 */
export function print(text: string): void {
  const { stdout } = process;
  if (stdout.listenerCount('error') === 0) stdout.on('error', dropUnread);
  stdout.write(text);
}

function dropUnread(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}
