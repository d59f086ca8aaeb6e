const JSON_NUMBER = /^(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$/;

/** More digits than any 64-bit integer has. */
const MAX_DIGITS = 20;

/**
 * The exact integer value of a JSON number (`12`, `1.20e1`), a bigint if a double cannot represent it.
 * Undefined if it is not a JSON number, not an integer, or has more than 20 digits, which no field can hold.
 */
export function integerOf(text: string): number | bigint | undefined {
  const match = JSON_NUMBER.exec(text);
  if (match === null) return undefined;
  const fraction = match[3] ?? '';
  let digits = `${match[2]}${fraction}`.replace(/^0+/, '');
  if (digits === '') return 0;
  const significant = digits.replace(/0+$/, '');
  const exponent = Number(match[4] ?? '0') - fraction.length + (digits.length - significant.length);
  if (exponent < 0 || significant.length + exponent > MAX_DIGITS) return undefined;
  digits = significant + '0'.repeat(exponent);
  const wide = BigInt((match[1] ?? '') + digits);
  const narrow = Number(wide);
  return Number.isSafeInteger(narrow) ? narrow : wide;
}

/** The double value of a JSON number; undefined if it is not a JSON number, infinite if it is out of range. */
export function doubleOf(text: string): number | undefined {
  return JSON_NUMBER.test(text) ? Number(text) : undefined;
}

/** The shortest decimal that is parsed as the same 32-bit float. */
export function floatText(value: number): string {
  for (let precision = 6; precision <= 9; precision++) {
    const candidate = Number(value.toPrecision(precision));
    if (Math.fround(candidate) === value) return numberText(candidate);
  }
  return numberText(value);
}

/** A finite double as JSON. `String` would lose the sign of zero. */
export function numberText(value: number): string {
  return value === 0 && Object.is(value, -0) ? '-0' : String(value);
}

export const INT32_MIN = -0x8000_0000;
export const INT32_MAX = 0x7fff_ffff;
export const UINT32_MAX = 0xffff_ffff;
export const INT64_MIN = -(2n ** 63n);
export const INT64_MAX = 2n ** 63n - 1n;
export const UINT64_MAX = 2n ** 64n - 1n;
