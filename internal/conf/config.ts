import type { Bootstrap } from '../../gen/conf.js';
import type { Duration } from '../../gen/google/protobuf/duration.js';
import { type Token, token } from '../kratos/app/token.js';

type Shape<T> = [T] extends [Duration]
  ? number
  : T extends readonly (infer E)[]
    ? readonly E[]
    : T extends object
      ? ConfigOf<T>
      : T;

/** A configuration message as the code sees it: all of it present, each Duration `x` a number of ms called `xMs`. */
export type ConfigOf<T> = {
  readonly [K in keyof T as [NonNullable<T[K]>] extends [Duration] ? `${K & string}Ms` : K]-?: Shape<NonNullable<T[K]>>;
};

/** The configuration of a process, whole and checked. */
export type Config = ConfigOf<Bootstrap>;

/** What the container knows the configuration by. */
export const CONFIG: Token<Config> = token('Config');
