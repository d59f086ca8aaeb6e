import { capacityLines } from './capacity-lines.js';
import type { Figures } from './figures.js';
import { type Goal, LINES, type Line, verdicts } from './goals.js';

/** The results as a table in Markdown. */
export function table(figures: Figures): string {
  const head = ['work', 'median', 'rounds', 'against', 'ratio', 'goal', ''];
  // Only what a run with this part has measured: it is none of the usual ones.
  const capacity = capacityLines().filter(({ id }) => figures.of(id).length > 0);
  const rows = [...LINES, ...capacity].flatMap((line) => rowsOf(line, figures));
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function rowsOf(line: Line, figures: Figures): string[][] {
  const value = figures.median(line.id);
  const reason = figures.skipped[line.id]?.split('\n')[0];
  if (value === undefined) {
    return [[line.work, '–', '', '', '', '', `not measured: ${reason ?? 'not part of this run'}`]];
  }
  const spread = figures.of(line.id).map((v) => number(v, line.unit));
  const first = [
    line.work,
    `**${number(value, line.unit)}** ${line.unit}`,
    spread.length > 1 ? spread.join(' · ') : '',
  ];
  const found = verdicts(line, figures);
  if (found.length === 0) return [[...first, '', '', '', reason ?? '']];
  return found.map(({ goal, ratio, met }, i) => {
    const [aim, verdict] = goalOf(goal, met);
    const note = [verdict, i === 0 ? reason : ''].filter(Boolean).join('; ');
    return [...(i === 0 ? first : ['', '', '']), goal.reference, ratio.toFixed(2), aim, note];
  });
}

/** The goal and whether it is met; empty for a ratio that is only reported. */
function goalOf({ atLeast, atMost }: Goal, met: boolean): [string, string] {
  if (atLeast === undefined && atMost === undefined) return ['', ''];
  return [atLeast !== undefined ? `≥ ${short(atLeast)}` : `≤ ${short(atMost ?? 0)}`, met ? 'met' : '**not met**'];
}

function short(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function number(value: number, unit: Line['unit']): string {
  switch (unit) {
    case '/s':
    case 'B':
      return Math.round(value).toLocaleString('en-US');
    case 'µs':
      return value.toFixed(1);
    case 'ms':
      return value < 10 ? value.toFixed(2) : value.toFixed(1);
    case 's':
      return value.toFixed(1);
    case '×':
      return value.toFixed(2);
  }
}

const BAR = { left: 250, width: 520, height: 20, gap: 8, top: 56 };

/** Bar chart of all rates per second. */
export function picture(figures: Figures, title: string): string {
  const bars = LINES.filter((line) => line.unit === '/s').flatMap((line) => {
    const value = figures.median(line.id);
    return value === undefined ? [] : [{ line, value }];
  });
  const most = Math.max(1, ...bars.map((bar) => bar.value));
  const height = BAR.top + bars.length * (BAR.height + BAR.gap) + 16;
  const body = bars.map(({ line, value }, i) => {
    const y = BAR.top + i * (BAR.height + BAR.gap);
    const width = Math.max(1, (BAR.width * value) / most);
    const text = y + BAR.height - 5;
    const own = line.goals.length > 0;
    return [
      `<text x="${BAR.left - 10}" y="${text}" text-anchor="end">${xml(line.work)}</text>`,
      `<rect x="${BAR.left}" y="${y}" width="${width.toFixed(1)}" height="${BAR.height}" rx="3" fill="${own ? '#0a7d5a' : '#9aa4ad'}"/>`,
      `<text x="${(BAR.left + width + 8).toFixed(1)}" y="${text}">${number(value, '/s')}</text>`,
    ].join('\n');
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="880" height="${height}" viewBox="0 0 880 ${height}" font-family="system-ui, sans-serif" font-size="13" fill="#1c2126">
<rect width="880" height="${height}" fill="#ffffff"/>
<text x="16" y="26" font-size="16" font-weight="600">Per second, median of the rounds</text>
<text x="16" y="44" fill="#5b6670">${xml(title)}; green is Kaimai, grey are references and peers</text>
${body.join('\n')}
</svg>
`;
}

function xml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
