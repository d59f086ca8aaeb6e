/**
 * How Kaimai grows, by a simulation in virtual time: the project's batches, segments and slots against servers with measured
 * service times. It starts no server, and one seed gives one result.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../internal/local/project.js';
import { checks } from './growth-checks.js';
import { quietCosts, readMeasured } from './growth-costs.js';
import { plannedSettlementTable, plansTable } from './growth-plans.js';
import { imbalanceTable, lastUnitsTable, segmentsTable, settlementTable, workersTable } from './growth-tables.js';

const DOCUMENT = join(projectRoot, 'docs/scaling.md');

/** Prints each table, and writes it between its marks in docs/scaling.md. */
export async function simulateGrowth(onLine: (line: string) => void): Promise<void> {
  const measured = readMeasured();
  const costs = quietCosts(measured);
  const tables: Readonly<Record<string, () => Promise<string> | string>> = {
    checks: () => checks(measured, costs),
    segments: () => segmentsTable(costs),
    workers: () => workersTable(costs),
    imbalance: () => imbalanceTable(),
    'last units': () => lastUnitsTable(costs),
    settlement: () => settlementTable(costs),
    plans: () => plansTable(costs),
    'planned settlement': () => plannedSettlementTable(costs),
  };
  let document = readFileSync(DOCUMENT, 'utf8');
  for (const [name, make] of Object.entries(tables)) {
    const table = await make();
    onLine(`\n${name}\n\n${table}`);
    document = withTable(document, name, table);
  }
  writeFileSync(DOCUMENT, document);
}

/** @throws when the document has no place for the table */
function withTable(document: string, name: string, table: string): string {
  const [from, to] = [`<!-- growth: ${name} -->`, '<!-- /growth -->'];
  const start = document.indexOf(from);
  const end = document.indexOf(to, start);
  if (start < 0 || end < 0) throw new Error(`docs/scaling.md has no place for ${name}`);
  return `${document.slice(0, start)}${from}\n${table}\n${document.slice(end)}`;
}
