import { integerOf } from './number-text.js';
import { invalidArgument, type TranscodeError } from './transcode-error.js';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const MINUS = 0x2d;
const DOT = 0x2e;
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
const UPPER_E = 0x45;
const LOWER_E = 0x65;
const LOWER_N = 0x6e;

/** Marks a map key in a field path, which is shown as `["key"]`. */
const MAP_KEY = '\u0000';

/** Number of digits that a double always represents exactly. */
const SAFE_DIGITS = 15;

/**
 * A pull parser for JSON, strictly per RFC 8259. JSON.parse loses what proto3 JSON must reject (duplicate keys, digits
 * above 2^53, depth), and values are written to the wire without intermediate objects.
 */
export class JsonReader {
  private position = 0;
  private depth = 0;
  private readonly path: (string | number)[] = [];

  constructor(
    private readonly text: string,
    private readonly maxDepth: number,
  ) {}

  /** Enters a field, for error messages; `pop` leaves it. */
  push(name: string | number): void {
    this.path.push(name);
  }

  pushKey(key: string): void {
    this.path.push(MAP_KEY + key);
  }

  pop(): void {
    this.path.pop();
  }

  /** An error about the current value. */
  fault(description: string): TranscodeError {
    return invalidArgument(pathText(this.path), description);
  }

  private syntax(what: string): TranscodeError {
    return invalidArgument('', `not valid JSON: ${what} at character ${this.position}`);
  }

  /** The first character of the next value; -1 at the end. */
  peek(): number {
    const text = this.text;
    let at = this.position;
    while (at < text.length) {
      const unit = text.charCodeAt(at);
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) {
        this.position = at;
        return unit;
      }
      at++;
    }
    this.position = at;
    return -1;
  }

  /** The current position, for `rewind`. */
  mark(): number {
    return this.position;
  }

  rewind(mark: number): void {
    this.position = mark;
  }

  end(): void {
    if (this.peek() !== -1) throw this.syntax('unexpected text after the value');
  }

  isNull(): boolean {
    return this.peek() === LOWER_N;
  }

  isString(): boolean {
    return this.peek() === QUOTE;
  }

  isArray(): boolean {
    return this.peek() === OPEN_BRACKET;
  }

  isObject(): boolean {
    return this.peek() === OPEN_BRACE;
  }

  isNumber(): boolean {
    const unit = this.peek();
    return unit === MINUS || (unit >= DIGIT_0 && unit <= DIGIT_9);
  }

  beginObject(): void {
    this.begin(OPEN_BRACE, 'an object');
  }

  /** The next key; undefined once the object is closed. */
  nextKey(first: boolean): string | undefined {
    if (!this.more(first, CLOSE_BRACE)) return undefined;
    if (this.peek() !== QUOTE) throw this.syntax('expected a key in quotes');
    const key = this.string();
    if (this.peek() !== COLON) throw this.syntax('expected ":"');
    this.position++;
    return key;
  }

  beginArray(): void {
    this.begin(OPEN_BRACKET, 'an array');
  }

  /** Whether another item follows; false closes the array. */
  nextItem(first: boolean): boolean {
    return this.more(first, CLOSE_BRACKET);
  }

  private begin(open: number, what: string): void {
    if (this.peek() !== open) throw this.unexpected(what);
    if (++this.depth > this.maxDepth) throw invalidArgument('', `JSON is nested deeper than ${this.maxDepth}`);
    this.position++;
  }

  private more(first: boolean, close: number): boolean {
    const unit = this.peek();
    if (unit === close) {
      this.position++;
      this.depth--;
      return false;
    }
    if (first) return true;
    if (unit !== COMMA) throw this.syntax(`expected "," or "${String.fromCharCode(close)}"`);
    this.position++;
    const next = this.peek();
    if (next === close) throw this.syntax('unexpected ","');
    return true;
  }

  /** An error that names the unexpected value; a syntax error if there is no value. */
  unexpected(expected: string): TranscodeError {
    const unit = this.peek();
    const found =
      unit === QUOTE
        ? 'a string'
        : unit === OPEN_BRACE
          ? 'an object'
          : unit === OPEN_BRACKET
            ? 'an array'
            : unit === MINUS || (unit >= DIGIT_0 && unit <= DIGIT_9)
              ? 'a number'
              : this.text.startsWith('null', this.position)
                ? 'null'
                : this.text.startsWith('true', this.position) || this.text.startsWith('false', this.position)
                  ? 'a boolean'
                  : undefined;
    if (found === undefined) return this.syntax(unit === -1 ? 'unexpected end' : 'unexpected character');
    return this.fault(`expected ${expected}, got ${found}`);
  }

  null(): void {
    if (!this.word('null')) throw this.unexpected('null');
  }

  boolean(): boolean {
    this.peek();
    if (this.word('true')) return true;
    if (this.word('false')) return false;
    throw this.unexpected('true or false');
  }

  private word(word: string): boolean {
    if (!this.text.startsWith(word, this.position)) return false;
    this.position += word.length;
    return true;
  }

  string(): string {
    if (this.peek() !== QUOTE) throw this.unexpected('a string');
    const text = this.text;
    const start = ++this.position;
    let at = start;
    for (;;) {
      const unit = text.charCodeAt(at);
      if (unit === QUOTE) {
        this.position = at + 1;
        return text.slice(start, at);
      }
      // NaN past the end fails this test too.
      if (!(unit >= 0x20) || unit === BACKSLASH) break;
      at++;
    }
    return this.escapedString(start, at);
  }

  private escapedString(start: number, firstEscape: number): string {
    const text = this.text;
    let out = '';
    let from = start;
    let at = firstEscape;
    for (;;) {
      const unit = text.charCodeAt(at);
      if (unit === QUOTE) {
        out += text.slice(from, at);
        this.position = at + 1;
        if (LONE_SURROGATE.test(out)) throw this.fault('string contains a lone surrogate');
        return out;
      }
      if (!(unit >= 0x20)) {
        this.position = at;
        throw this.syntax(at >= text.length ? 'unexpected end of a string' : 'control character in a string');
      }
      if (unit !== BACKSLASH) {
        at++;
        continue;
      }
      out += text.slice(from, at);
      const letter = text[at + 1];
      if (letter === 'u') {
        const hex = text.slice(at + 2, at + 6);
        if (!/^[0-9a-fA-F]{4}$/.test(hex)) {
          this.position = at;
          throw this.syntax('bad \\u escape');
        }
        out += String.fromCharCode(Number.parseInt(hex, 16));
        at += 6;
      } else {
        const plain = letter === undefined ? undefined : ESCAPES.get(letter);
        if (plain === undefined) {
          this.position = at;
          throw this.syntax('bad escape');
        }
        out += plain;
        at += 2;
      }
      from = at;
    }
  }

  /** The text of a number, which conforms to the grammar. */
  numberToken(): string {
    const unit = this.peek();
    if (unit !== MINUS && !(unit >= DIGIT_0 && unit <= DIGIT_9)) throw this.unexpected('a number');
    NUMBER_TOKEN.lastIndex = this.position;
    const match = NUMBER_TOKEN.exec(this.text);
    const token = match?.[0];
    if (token === undefined) throw this.syntax('bad number');
    this.position += token.length;
    const next = this.text.charCodeAt(this.position);
    if (next >= DIGIT_0 && next <= DIGIT_9) throw this.syntax('bad number');
    return token;
  }

  /** An exact integer, given as a number or a string; a bigint if a double cannot represent it. */
  integer(): number | bigint {
    const unit = this.peek();
    if (unit === QUOTE) {
      const start = this.position++;
      const fast = this.smallInteger(this.text.charCodeAt(this.position));
      if (fast !== undefined && this.text.charCodeAt(this.position) === QUOTE) {
        this.position++;
        return fast;
      }
      this.position = start;
      return this.wholeNumber(this.string());
    }
    return this.smallInteger(unit) ?? this.wholeNumber(this.numberToken());
  }

  /** Fast path for a short integer; undefined for anything else, without consuming it. */
  private smallInteger(first: number): number | undefined {
    const text = this.text;
    const negative = first === MINUS;
    let at = negative ? this.position + 1 : this.position;
    const start = at;
    let value = 0;
    let unit = text.charCodeAt(at);
    while (unit >= DIGIT_0 && unit <= DIGIT_9) {
      value = value * 10 + (unit - DIGIT_0);
      unit = text.charCodeAt(++at);
    }
    const digits = at - start;
    if (digits === 0 || digits > SAFE_DIGITS || (digits > 1 && text.charCodeAt(start) === DIGIT_0)) return undefined;
    if (unit === DOT || unit === LOWER_E || unit === UPPER_E) return undefined;
    this.position = at;
    return negative && value !== 0 ? -value : value;
  }

  private wholeNumber(text: string): number | bigint {
    const value = integerOf(text);
    if (value === undefined) throw this.fault('not an integer in range');
    return value;
  }

  /** Skips a value, which must be valid nevertheless. */
  skip(): void {
    const unit = this.peek();
    if (unit === QUOTE) {
      this.string();
    } else if (unit === OPEN_BRACE) {
      const keys = new Set<string>();
      this.beginObject();
      for (let key = this.nextKey(true); key !== undefined; key = this.nextKey(false)) {
        if (keys.has(key)) throw this.fault(`duplicate key ${JSON.stringify(key)}`);
        keys.add(key);
        this.skip();
      }
    } else if (unit === OPEN_BRACKET) {
      this.beginArray();
      for (let more = this.nextItem(true); more; more = this.nextItem(false)) this.skip();
    } else if (unit === MINUS || (unit >= DIGIT_0 && unit <= DIGIT_9)) {
      this.numberToken();
    } else if (!this.word('null') && !this.word('true') && !this.word('false')) {
      throw this.unexpected('a value');
    }
  }
}

const LONE_SURROGATE = /\p{Surrogate}/u;
const NUMBER_TOKEN = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

const ESCAPES = new Map([
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);

function pathText(path: readonly (string | number)[]): string {
  let out = '';
  for (const part of path) {
    if (typeof part === 'number') out += `[${part}]`;
    else if (part.startsWith(MAP_KEY)) out += `[${JSON.stringify(part.slice(1))}]`;
    else out += out === '' ? part : `.${part}`;
  }
  return out;
}
