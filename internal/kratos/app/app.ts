import type { Logger } from '../log/logger.js';
import type { Health } from './health.js';
import type { Server } from './server.js';

export interface AppOptions {
  readonly name: string;
  readonly logger: Logger;
  /** Started in this order, stopped in reverse. */
  readonly servers: readonly Server[];
  /** Set when all servers serve, cleared when the stop begins. */
  readonly health: Pick<Health, 'serving'>;
  /** How long to continue serving after the stop began, so that callers notice. */
  readonly drainDelayMs: number;
  /** How long servers and resources may take to stop, after the drain delay. */
  readonly stopTimeoutMs: number;
  /** Runs once all servers serve: registers with service discovery. */
  readonly register?: () => Promise<void>;
  /** Runs first when the app stops. */
  readonly deregister?: () => Promise<void>;
  /** Closes what the servers used (pools, connections), after they stopped. */
  readonly close?: (deadline: AbortSignal) => Promise<void>;
}

/** The signals that stop a process. */
export const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const;

/** Exit code after a second signal, as shells write it: 128 + SIGINT. */
export const IMPATIENT = 130;

/**
 * The life of a process: starts its servers in order, runs until a signal or a fatal error, and stops them in reverse.
 *
 * starting ─ all serve ─▶ running ─ signal ─▶ draining (deregistered, still serving) ─▶ stopping ─▶ closed: exit code 0
 *    └── a start failed ──────┴──── fatal error ───────────────────────────────────────▶ stopping ─▶ closed: exit code 1
 *
 * A second signal ends the process immediately. A step that does not end in time is abandoned.
 */
export class App {
  private readonly options: AppOptions;
  private resolveStopped: (() => void) | undefined;
  private fault: unknown;
  private faulty = false;
  private stopping = false;

  constructor(options: AppOptions) {
    this.options = options;
  }

  /** Runs until the app has stopped, and resolves with the exit code. */
  async run(): Promise<number> {
    const { logger, servers, health, name } = this.options;
    const stopped = new Promise<void>((resolve) => {
      this.resolveStopped = resolve;
      if (this.stopping) resolve();
    });
    const off = this.listen();
    const reached: Server[] = [];
    try {
      for (const server of servers) {
        if (this.stopping) break;
        reached.push(server);
        await Promise.race([server.start((err) => this.fail(err)), stopped]);
      }
      if (!this.stopping) {
        health.serving = true;
        await this.options.register?.();
        logger.info('serving', { app: name, servers: servers.map((s) => s.name) });
      }
    } catch (err) {
      this.fail(err);
    }
    await stopped;
    health.serving = false;
    await this.shutDown(reached);
    off();
    logger.info('stopped', { app: name, code: this.faulty ? 1 : 0 });
    return this.faulty ? 1 : 0;
  }

  /** Stops the app as a signal would. An app that is stopped before it runs starts nothing. */
  stop(): void {
    this.stopping = true;
    this.resolveStopped?.();
  }

  /** Stops the app because of a fatal error; its exit code is then 1. */
  fail(err: unknown): void {
    if (!this.faulty) {
      this.faulty = true;
      this.fault = err;
      this.options.logger.error('fatal error: stopping', { app: this.options.name, err });
    } else if (err !== this.fault) {
      this.options.logger.error('another fatal error', { app: this.options.name, err });
    }
    this.stop();
  }

  private async shutDown(reached: readonly Server[]): Promise<void> {
    const { logger, drainDelayMs, stopTimeoutMs } = this.options;
    const deadline = new AbortController();
    await this.step('deregister', deadline.signal, stopTimeoutMs, () => this.options.deregister?.());
    for (const server of reached) server.drain?.();
    // After a fatal error the process cannot serve, so there is nothing to wait for.
    if (!this.faulty && reached.length > 0 && drainDelayMs > 0) await delay(drainDelayMs);
    const deadlineAtMs = Date.now() + stopTimeoutMs;
    const timer = setTimeout(() => deadline.abort(), stopTimeoutMs);
    for (const server of [...reached].reverse()) {
      await this.step(server.name, deadline.signal, GRACE_MS, () => server.stop(deadline.signal, deadlineAtMs));
    }
    await this.step('resources', deadline.signal, GRACE_MS, () => this.options.close?.(deadline.signal));
    clearTimeout(timer);
    logger.debug('all servers and resources are closed', { app: this.options.name });
  }

  /** Runs one step of the stop; `graceMs` after the deadline it is abandoned, so that the next steps still run. */
  private async step(
    what: string,
    deadline: AbortSignal,
    graceMs: number,
    run: () => Promise<void> | undefined,
  ): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    let arm: (() => void) | undefined;
    const late = new Promise<'late'>((resolve) => {
      arm = () => {
        timer = setTimeout(resolve, graceMs, 'late');
      };
      if (what === 'deregister' || deadline.aborted) arm();
      else deadline.addEventListener('abort', arm, { once: true });
    });
    try {
      if ((await Promise.race([run(), late])) === 'late') {
        this.options.logger.warn('step takes too long: abandoned', { step: what });
      }
    } catch (err) {
      this.options.logger.error('step failed', { step: what, err });
    } finally {
      clearTimeout(timer);
      if (arm) deadline.removeEventListener('abort', arm);
    }
  }

  private listen(): () => void {
    let signals = 0;
    const onSignal = (signal: NodeJS.Signals) => {
      signals++;
      if (signals > 1) {
        this.options.logger.warn('second signal: exiting immediately', { signal });
        process.exit(IMPATIENT);
      }
      this.options.logger.info('signal received: stopping', { signal });
      this.stop();
    };
    const onFault = (err: unknown) => this.fail(err);
    for (const signal of STOP_SIGNALS) process.on(signal, onSignal);
    process.on('uncaughtException', onFault);
    process.on('unhandledRejection', onFault);
    return () => {
      for (const signal of STOP_SIGNALS) process.off(signal, onSignal);
      process.off('uncaughtException', onFault);
      process.off('unhandledRejection', onFault);
    };
  }
}

/** Time that a server has after the deadline to abandon its work. */
const GRACE_MS = 1_000;

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
