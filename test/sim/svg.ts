export interface Picture {
  readonly width: number;
  readonly height: number;
  /** For who hears it. */
  readonly label: string;
  /** CSS of its own, and what is otherwise on a dark page. */
  readonly style: string;
  readonly dark: string;
}

/** A picture by itself, in light and dark: what has no colour of its own takes that of the page's scheme. */
export function drawSvg({ width, height, label, style, dark }: Picture, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${label}">
<style>
  svg { color: #1f2328; background: #ffffff; font: 12px system-ui, sans-serif }
  text { fill: currentColor } .axis { stroke: currentColor; opacity: 0.35 }
  ${style}
  @media (prefers-color-scheme: dark) {
    svg { color: #e6edf3; background: #0d1117 }
    ${dark}
  }
</style>
${parts.join('\n')}
</svg>
`;
}

/** A place on it, to a tenth. */
export function round(value: number): number {
  return Math.round(value * 10) / 10;
}
