// The page loads uPlot as a script of its own, which sets a global.
import type uPlot from 'uplot';

declare global {
  interface Window {
    readonly uPlot: typeof uPlot;
  }
}
