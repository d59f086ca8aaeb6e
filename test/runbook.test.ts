import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { projectRoot } from '../internal/local/project.js';
import { documentedMetrics } from './support/metrics-text.js';

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly runbook: string };
}

const FOLDER = join(projectRoot, 'deploy/prometheus');
const RUNBOOK = join(projectRoot, 'docs/runbook');
/** Of Prometheus itself. */
const FOREIGN = new Set(['up']);
/** Every replica exports the same for these, so their sum would grow with the replicas. */
const SHARED =
  /^kaimai_(background_backlog|background_oldest_age_seconds|orders|refunds|dead_letters|sales|sales_late|sale_status|sale_units|sale_drift|seckill_streams|seckill_faulty_stream)$/;

describe('The alerts', () => {
  const read = (file: string) => readFileSync(join(FOLDER, file), 'utf8');
  const { groups } = parse(read('kaimai.rules.yml')) as { groups: readonly { rules: readonly Rule[] }[] };
  const rules = groups.flatMap((group) => group.rules);

  it('have a heading in the runbook each, and the runbook has no other alerts', () => {
    for (const { alert, annotations, labels } of rules) {
      assert.equal(annotations.runbook, `docs/runbook/alerts.md#${alert.toLowerCase()}`);
      assert.ok(['page', 'ticket'].includes(labels.severity), alert);
    }
    const text = readFileSync(join(RUNBOOK, 'alerts.md'), 'utf8');
    const headings = [...text.matchAll(/^### (\w+)$/gm)].map(([, name = '']) => name);
    assert.deepEqual(headings.sort(), rules.map((rule) => rule.alert).sort());
  });

  it('are listed in the index of the runbook, as is each of its pages, once', () => {
    const index = readFileSync(join(RUNBOOK, 'README.md'), 'utf8');
    const pages = readdirSync(RUNBOOK).filter((file) => file !== 'README.md');
    const listed = [...index.matchAll(/^\| \[[^\]]+\]\(([\w-]+\.md)\)/gm)].map(([, page = '']) => page);
    assert.deepEqual(listed.sort(), pages.filter((page) => page !== 'alerts.md').sort());
    assert.deepEqual(
      rules.filter(({ alert }) => !index.includes(`[${alert}](alerts.md#${alert.toLowerCase()})`)).map((r) => r.alert),
      [],
    );
  });

  it('ask only for metrics that product or resource export, by labels that these have', () => {
    const metrics = new Map(documentedMetrics(join(projectRoot, 'docs/metrics.md')).map((m) => [m.name, m]));
    assert.ok(metrics.size > 40);
    for (const { alert, expr } of rules) {
      const asked = [...expr.matchAll(/\b(kaimai_\w+|up)\b(?:\{([^}]*)\})?/g)];
      assert.ok(asked.length > 0, `${alert} asks for no metric`);
      for (const [, name = '', matchers = ''] of asked) {
        if (FOREIGN.has(name)) continue;
        const metric = metrics.get(name) ?? metrics.get(name.replace(/_(bucket|sum|count)$/, ''));
        assert.ok(metric, `${alert}: nothing exports ${name}`);
        for (const [, label = ''] of matchers.matchAll(/(\w+)\s*(?:=|!)/g)) {
          assert.ok(metric.labels.includes(label) || label === 'job', `${alert}: ${name} has no label ${label}`);
        }
      }
    }
  });

  it('never add up what every replica sees alike', () => {
    for (const { alert, expr } of rules) {
      for (const [, aggregation = '', name = ''] of expr.matchAll(/(\w+)(?:\s+by\s*\([^)]*\))?\s*\(\s*(kaimai_\w+)/g)) {
        if (SHARED.test(name)) assert.equal(aggregation, 'max', `${alert}: ${name}`);
      }
    }
  });

  it('are accepted by promtool, and fire when its tests say so', async function () {
    const folders = (process.env.PATH ?? '').split(':');
    // Prometheus is no part of a development machine.
    if (!folders.some((folder) => existsSync(join(folder, 'promtool')))) this.skip();
    const promtool = promisify(execFile);
    await promtool('promtool', ['check', 'config', join(FOLDER, 'prometheus.yml')]);
    await promtool('promtool', ['test', 'rules', join(FOLDER, 'kaimai.rules.test.yml')]);
  });
});

describe('The rotation of secrets', () => {
  it('is described for every secret of the configuration', () => {
    const settings = readFileSync(join(projectRoot, 'docs/configuration.md'), 'utf8');
    const secrets = [...settings.matchAll(/^\| `([\w.]*(?:secret|token|private_key|tls\.key))` \|/gm)].map(
      ([, name = '']) => name,
    );
    assert.ok(secrets.length >= 8, secrets.join(', '));
    const page = readFileSync(join(RUNBOOK, 'secrets.md'), 'utf8');
    assert.deepEqual(
      secrets.filter((name) => !page.includes(`\`${name}\``)),
      [],
    );
  });
});
