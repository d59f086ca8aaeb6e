import type { Server } from '../app/server.js';

const INTERVAL_MS = 250;
/** Weight of the past: about two seconds of memory, so that one garbage collection does not count as overload. */
const DECAY = 0.85;

/** Smoothed CPU usage of the process, in percent of one core. */
export class CpuMeter implements Server {
  readonly name = 'cpu meter';
  private smoothedPercent = 0;
  private timer: NodeJS.Timeout | undefined;

  get percent(): number {
    return this.smoothedPercent;
  }

  async start(): Promise<void> {
    let usage = process.cpuUsage();
    let at = performance.now();
    this.timer = setInterval(() => {
      const now = performance.now();
      const spent = process.cpuUsage(usage);
      const percent = ((spent.user + spent.system) / 1000 / (now - at)) * 100;
      usage = process.cpuUsage();
      at = now;
      // The threads of the runtime can use more than one core in total.
      this.smoothedPercent = this.smoothedPercent * DECAY + Math.min(percent, 100) * (1 - DECAY);
    }, INTERVAL_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
  }
}
