/**
 * Records of CSV as RFC 4180 has it: fields in quotes may hold commas, line ends and doubled quotes. Empty lines are no
 * records.
 *
 * @throws where a quote stands in the middle of a field, or never ends
 */
export async function* readCsv(chunks: AsyncIterable<string>): AsyncIterable<readonly string[]> {
  let record: string[] = [];
  let field = '';
  let state: 'start' | 'plain' | 'quoted' | 'after quote' = 'start';
  let line = 1;
  const fault = () => new Error(`line ${line}: a quote is out of place`);

  for await (const chunk of chunks) {
    for (const c of chunk) {
      if (c === '\n') line++;
      if (state === 'quoted') {
        if (c === '"') state = 'after quote';
        else field += c;
      } else if (c === '"') {
        if (state === 'plain') throw fault();
        if (state === 'after quote') field += c;
        state = 'quoted';
      } else if (c === ',') {
        record.push(field);
        field = '';
        state = 'start';
      } else if (c === '\n') {
        if (state !== 'start' || record.length > 0) yield [...record, field];
        record = [];
        field = '';
        state = 'start';
      } else if (c !== '\r') {
        if (state === 'after quote') throw fault();
        field += c;
        state = 'plain';
      }
    }
  }
  if (state === 'quoted') throw fault();
  if (state !== 'start' || record.length > 0) yield [...record, field];
}
