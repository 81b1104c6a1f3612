import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { CHROMIUM } from './programs.js';

/** A page in a real browser, with all that it does wrong. */
export interface WatchedPage {
  readonly page: Page;
  /** Errors and warnings of the console, and errors that no script caught. A broken security policy is an error. */
  readonly complaints: readonly string[];
  /** Addresses on other hosts or ports that the page asked for. */
  readonly strangers: readonly string[];
  close(): Promise<void>;
}

export interface Chromium {
  /** Opens an address in a fresh profile. */
  open(url: string, options?: BrowserContextOptions): Promise<WatchedPage>;
  close(): Promise<void>;
}

export async function startChromium(...flags: string[]): Promise<Chromium> {
  // Chromium refuses its sandbox to root, as whom containers run tests.
  const args = process.getuid?.() === 0 ? ['--no-sandbox', ...flags] : flags;
  const browser: Browser = await chromium.launch({ executablePath: CHROMIUM, args, timeout: 60_000 });
  return {
    async open(url, options) {
      const context = await browser.newContext(options);
      const page = await context.newPage();
      const { origin } = new URL(url);
      const complaints: string[] = [];
      const strangers: string[] = [];
      page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
      });
      page.on('pageerror', (error) => complaints.push(String(error)));
      page.on('request', (request) => {
        const asked = new URL(request.url());
        if (/^(https?|wss?):$/.test(asked.protocol) && asked.origin !== origin) strangers.push(asked.href);
      });
      await page.goto(url, { waitUntil: 'load' });
      return { page, complaints, strangers, close: () => context.close() };
    },
    close: () => browser.close(),
  };
}
