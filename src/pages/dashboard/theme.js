import { find } from './dom.js';

const KEY = 'tokenring-theme';
const probe = document.createElement('span');
probe.hidden = true;

/**
 * The value of a colour of dashboard.css in the theme of now, for a canvas.
 * @param {string} name such as `--muted`
 */
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/**
 * Follows the browser's theme until somebody presses the button. The choice is the one thing that the page stores.
 * @param {() => void} changed
 */
export function createTheme(changed) {
  const button = find('#theme');
  const browser = matchMedia('(prefers-color-scheme: dark)');
  let chosen = read();

  function apply() {
    const isDark = chosen === undefined ? browser.matches : chosen === 'dark';
    document.documentElement.dataset['theme'] = isDark ? 'dark' : 'light';
    button.textContent = isDark ? 'Light theme' : 'Dark theme';
  }

  function change() {
    apply();
    changed();
  }

  button.addEventListener('click', () => {
    chosen = document.documentElement.dataset['theme'] === 'dark' ? 'light' : 'dark';
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // Where a browser stores nothing, the choice ends with the page.
    }
    change();
  });
  browser.addEventListener('change', change);
  apply();
}

function read() {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === 'dark' || stored === 'light' ? stored : undefined;
  } catch {
    return undefined;
  }
}
