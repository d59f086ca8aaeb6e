import assert from 'node:assert/strict';
import pg from 'pg';
import { parseTimestamp } from './value-types.js';

describe('a timestamp of PostgreSQL', () => {
  const theirs = pg.types.getTypeParser(1184) as (text: string) => unknown;

  for (const text of [
    '2026-01-31 23:59:59.123456+00',
    '2024-02-29 00:00:00+00',
    '1999-12-31 23:59:59.9+00',
    '2026-03-01 12:34:56.07+00',
    '2026-03-01 12:34:56.789+08',
    '2026-03-01 12:34:56+05:30',
    '10000-01-01 00:00:00+00',
    '0044-03-15 12:00:00+00 BC',
    'infinity',
    '-infinity',
  ]) {
    it(`parses ${text} as pg does`, () => {
      assert.deepEqual(parseTimestamp(text), theirs(text));
    });
  }
});
