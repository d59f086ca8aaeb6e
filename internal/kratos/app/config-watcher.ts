import { ConfigError, formatViolation } from '../config/config-error.js';
import type { ReloadableConfig } from '../config/reloadable-config.js';
import type { Logger } from '../log/logger.js';
import type { Server } from './server.js';

/** Polling is cheap and, unlike file system events, works on every kind of mount. */
const INTERVAL_MS = 1_000;

/** Applies changes of the configuration files while the process runs. */
export class ConfigWatcher implements Server {
  readonly name = 'config watcher';
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly config: Pick<ReloadableConfig<unknown>, 'refresh'>,
    private readonly logger: Logger,
  ) {}

  async start(): Promise<void> {
    this.timer = setInterval(() => this.refresh(), INTERVAL_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
  }

  private refresh(): void {
    try {
      const change = this.config.refresh();
      if (!change) return;
      if (change.applied.length > 0) this.logger.info('configuration changed', { settings: change.applied });
      if (change.waiting.length > 0) {
        this.logger.warn('configuration changed; restart to apply', { settings: change.waiting });
      }
    } catch (err) {
      if (!(err instanceof ConfigError)) throw err;
      this.logger.error('invalid configuration; the previous one stays in force', {
        violations: err.violations.map(formatViolation),
      });
    }
  }
}
