import type { Command } from './command.js';

/** The commands. Each is loaded when it is used, so that a command that asks a node does not load a server. */
export const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  allow: async () => (await import('./allow.js')).allow,
  bench: async () => (await import('./bench.js')).bench,
  completions: async () => (await import('./completions.js')).completionsOf(COMMANDS, NODE_COMMANDS),
  describe: async () => (await import('./client-commands.js')).describe,
  owner: async () => (await import('./client-commands.js')).owner,
  policies: async () => (await import('./policies.js')).policies,
  reset: async () => (await import('./client-commands.js')).reset,
  settle: async () => (await import('./client-commands.js')).settle,
  status: async () => (await import('./status.js')).status,
  top: async () => (await import('./top.js')).top,
  token: async () => (await import('./token.js')).token,
};

/** The commands that run nodes. Their flags are the settings, and they run until a signal. */
export const NODE_COMMANDS = ['serve', 'cluster'] as const;
