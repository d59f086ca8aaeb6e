import type { Server } from '../app/server.js';

const INTERVAL_MS = 250;
/** Weight of the past: about two seconds of memory, so that one garbage collection does not count as overload. */
const DECAY = 0.85;

/** Smoothed usage of the CPU and of the event loop. */
export class CpuMeter implements Server {
  readonly name = 'cpu meter';
  private smoothedPercent = 0;
  private smoothedUtilization = 0;
  private timer: NodeJS.Timeout | undefined;

  /** CPU usage of the process, in percent of one core. */
  get percent(): number {
    return this.smoothedPercent;
  }

  /** Share of the time in which the event loop was busy, from 0 to 1. */
  get eventLoopUtilization(): number {
    return this.smoothedUtilization;
  }

  async start(): Promise<void> {
    let usage = process.cpuUsage();
    let loop = performance.eventLoopUtilization();
    let at = performance.now();
    this.timer = setInterval(() => {
      const now = performance.now();
      const spent = process.cpuUsage(usage);
      const percent = ((spent.user + spent.system) / 1000 / (now - at)) * 100;
      usage = process.cpuUsage();
      at = now;
      // The threads of the runtime can use more than one core in total.
      this.smoothedPercent = this.smoothedPercent * DECAY + Math.min(percent, 100) * (1 - DECAY);
      const { utilization } = performance.eventLoopUtilization(loop);
      loop = performance.eventLoopUtilization();
      this.smoothedUtilization = this.smoothedUtilization * DECAY + utilization * (1 - DECAY);
    }, INTERVAL_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
  }
}
