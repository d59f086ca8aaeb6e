import type { Bootstrap } from '../../gen/conf.js';
import { type Token, token } from '../kratos/app/token.js';
import type { ConfigOf } from '../kratos/config/config-of.js';

/** The configuration of a process, complete and checked. */
export type Config = ConfigOf<Bootstrap>;

/** The container's identifier of the configuration. */
export const CONFIG: Token<Config> = token('Config');
