import Table from 'cli-table3';

const BORDERS = [
  ['top', 'top-left', 'top-mid', 'top-right'],
  ['bottom', 'bottom-left', 'bottom-mid', 'bottom-right'],
  ['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'],
].flat();

/** Rows as text without borders and colors, so that grep, awk and a narrow terminal can deal with them. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const result = new Table({
    head: head.map((name) => name.toUpperCase()),
    chars: Object.fromEntries(BORDERS.map((name) => [name, ''])),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
  });
  for (const row of rows) result.push([...row]);
  return result
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
