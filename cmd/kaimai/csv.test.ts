import assert from 'node:assert/strict';
import fc from 'fast-check';
import { readCsv } from './csv.js';

async function read(...chunks: string[]): Promise<(readonly string[])[]> {
  const records: (readonly string[])[] = [];
  for await (const record of readCsv(
    (async function* () {
      yield* chunks;
    })(),
  )) {
    records.push(record);
  }
  return records;
}

describe('readCsv', () => {
  it('reads fields with and without quotes, whatever the line ends and the chunks', async () => {
    assert.deepEqual(await read('a,b\r\n', '\n"c ""d"",', '\ne",\n,"",'), [
      ['a', 'b'],
      ['c "d",\ne', ''],
      ['', '', ''],
    ]);
    assert.deepEqual(await read(''), []);
    assert.deepEqual(await read('""'), [['']]);
  });

  it('refuses quotes that are out of place', async () => {
    for (const text of ['a"b', '"a"b', '"a', 'x\n"a']) await assert.rejects(read(text), /out of place/, text);
    await assert.rejects(read('a,"b\n"\nc,d"\n'), /^Error: line 3: /);
  });

  it('reads back whatever was quoted', async () => {
    const field = fc.string({ unit: 'grapheme' }).map((s) => s.replaceAll('\r', ''));
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(field, { minLength: 1 }), { maxLength: 5 }), async (records) => {
        const text = records.map((r) => r.map((f) => `"${f.replaceAll('"', '""')}"`).join(',')).join('\n');
        assert.deepEqual(await read(text), records);
      }),
    );
  });
});
