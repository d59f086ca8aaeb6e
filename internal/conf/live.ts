import { ReloadableConfig } from '../kratos/config/reloadable-config.js';
import type { Config } from './config.js';
import { bootstrapSpec } from './load.js';

/** The configuration of a process and the files it comes from, which may change while it runs. */
export class LiveConfig extends ReloadableConfig<Config> {
  /** @throws ConfigError */
  constructor(path: string) {
    super(path, bootstrapSpec());
  }
}
