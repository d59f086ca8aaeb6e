import type { Duration } from '../../../gen/google/protobuf/duration.js';

type Shape<T> = [T] extends [Duration]
  ? number
  : T extends readonly (infer E)[]
    ? readonly E[]
    : T extends object
      ? ConfigOf<T>
      : T;

/**
 * A configuration message as the code reads it: every field is present, and each Duration `x` is a number of ms named
 * `xMs`.
 */
export type ConfigOf<T> = {
  readonly [K in keyof T as [NonNullable<T[K]>] extends [Duration] ? `${K & string}Ms` : K]-?: Shape<NonNullable<T[K]>>;
};
