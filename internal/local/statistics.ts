import { connectClient } from '../data/postgres/hosts.js';
import { table } from './table.js';

/** As the first two documents write them. */
export const STATISTICS: readonly { readonly title: string; readonly sql: string }[] = [
  {
    title: '统计秒杀成功率 (instances by source and status, last day)',
    sql: `SELECT 
    source,
    status,
    COUNT(*) as count
FROM instance_logs
WHERE created_at >= NOW() - INTERVAL '1 day'
GROUP BY source, status
ORDER BY source, status;`,
  },
  {
    title: '统计各来源的成功率 (success rate by source)',
    sql: `SELECT 
    source,
    COUNT(*) as total,
    SUM(CASE WHEN status = 'SUCCESS' THEN 1 ELSE 0 END) as success,
    ROUND(100.0 * SUM(CASE WHEN status = 'SUCCESS' THEN 1 ELSE 0 END) / COUNT(*), 2) as success_rate
FROM instance_logs
GROUP BY source;`,
  },
  {
    title: '最近 1 小时的实例创建趋势 (by minute, last hour)',
    sql: `SELECT 
    date_trunc('minute', created_at) as minute,
    source,
    COUNT(*) as count
FROM instance_logs
WHERE created_at >= NOW() - INTERVAL '1 hour'
GROUP BY minute, source
ORDER BY minute DESC;`,
  },
];

const MAX_ROWS = 12;

/** Runs the documents' statistics and returns them as tables. */
export async function statistics(postgresUrl: string): Promise<string> {
  const client = await connectClient(postgresUrl);
  try {
    const parts: string[] = [];
    for (const { title, sql } of STATISTICS) {
      const { fields, rows } = await client.query<Record<string, unknown>>(sql);
      const cells = rows.slice(0, MAX_ROWS).map((row) => fields.map((f) => cell(row[f.name])));
      const left = rows.length > MAX_ROWS ? `\n… and ${rows.length - MAX_ROWS} more` : '';
      const names = fields.map((f) => f.name);
      parts.push(`${title}\n${table(names, cells)}${left}`);
    }
    return parts.join('\n\n');
  } finally {
    await client.end();
  }
}

function cell(value: unknown): string {
  return value instanceof Date ? value.toISOString().slice(0, 16).replace('T', ' ') : String(value);
}
