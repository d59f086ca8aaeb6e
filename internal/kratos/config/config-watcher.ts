import type { LiveConfig } from '../../conf/live.js';
import { ConfigError } from '../../conf/load.js';
import type { Server } from '../app/server.js';
import type { Logger } from '../log/logger.js';

/** Looking is cheap, and unlike the events of a file system it works on every mount. */
const INTERVAL_MS = 1_000;

/** Takes over what changes in the configuration files while the process runs. */
export class ConfigWatcher implements Server {
  readonly name = 'config watcher';
  #timer: NodeJS.Timeout | undefined;

  constructor(
    readonly live: LiveConfig,
    readonly logger: Logger,
  ) {}

  async start(): Promise<void> {
    this.#timer = setInterval(() => this.#look(), INTERVAL_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
  }

  #look(): void {
    try {
      const change = this.live.refresh();
      if (!change) return;
      if (change.applied.length > 0) this.logger.info('configuration changed', { settings: change.applied });
      if (change.waiting.length > 0) {
        this.logger.warn('configuration changed, for the next start', { settings: change.waiting });
      }
    } catch (err) {
      if (!(err instanceof ConfigError)) throw err;
      this.logger.error('the changed configuration is refused, the old one stays', { faults: err.faults });
    }
  }
}
