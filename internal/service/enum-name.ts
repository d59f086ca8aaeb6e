type Name<E> = Exclude<keyof E & string, `${string}_UNSPECIFIED` | 'UNRECOGNIZED'>;

/**
 * The name of a proto enum's value; undefined for its zero value, which means "not given", and for a number that this
 * version does not know.
 */
export function enumName<E extends object>(values: E, value: number): Name<E> | undefined {
  return value > 0 ? (values as Readonly<Record<number, Name<E>>>)[value] : undefined;
}
