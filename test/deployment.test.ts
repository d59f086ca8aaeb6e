import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { bootstrapSpec, ENVIRONMENT_RULE } from '../internal/conf/load.js';
import { settingsOf } from '../internal/kratos/config/environment.js';
import { findPrograms } from '../internal/local/kubernetes/programs.js';
import { projectRoot } from '../internal/local/project.js';
import { documentedMetrics } from './support/metrics-text.js';

const FOLDER = join(projectRoot, 'deploy/kubernetes');

// biome-ignore lint/suspicious/noExplicitAny: Kubernetes objects
type Json = any;

describe('make test-kubernetes', () => {
  const run = promisify(execFile);
  const env = { ...process.env, GO: 'no-such-command', KAIMAI_KUBERNETES_BIN: '/nonexistent' };

  it('is skipped with a line that says so where the programs are missing and there is no Go', async () => {
    const build = run(join(FOLDER, 'local/build'), { env });
    await assert.rejects(build, { code: 3, stderr: /^no Go on this machine: cannot build/ });
    const { stdout } = await run('make', ['--no-print-directory', '-o', 'build', 'test-kubernetes'], {
      ...{ env, cwd: projectRoot },
    });
    assert.equal(stdout, 'skipped: test/kubernetes\n');
  });

  it('fails if asked whether the programs are there, and they are not', async () => {
    const check = run(join(FOLDER, 'local/build'), ['--check'], { env });
    await assert.rejects(check, { code: 1, stderr: /^no Kubernetes programs in \/nonexistent: run/ });
  });

  it('has suites that are skipped with one line where the programs are missing', async () => {
    const tests = [join(projectRoot, 'dist/test/run.js'), 'test/kubernetes/provisioner'];
    const { stdout } = await run(process.execPath, tests, { env });
    assert.equal(stdout.match(/skipped: no Kubernetes programs in \/nonexistent: run/g)?.length, 1, stdout);
    assert.match(stdout, /\n0 passed, 0 failed\n$/);
  });
});

describe('deploy/kubernetes', () => {
  const read = (file: string) => readFileSync(join(FOLDER, file), 'utf8');
  const objects = (file: string): Json[] => parseAllDocuments(read(file)).map((document) => document.toJS());

  it('has the alert rules of deploy/prometheus', () => {
    const { groups } = parse(readFileSync(join(projectRoot, 'deploy/prometheus/kaimai.rules.yml'), 'utf8'));
    const [rule] = objects('monitoring/rules.yaml');
    if (process.env.UPDATE_RULES) {
      const head = read('monitoring/rules.yaml').split('\n')[0];
      writeFileSync(
        join(FOLDER, 'monitoring/rules.yaml'),
        `${head}\n${stringify({ ...rule, spec: { groups } }, { lineWidth: 0 })}`,
      );
      return;
    }
    assert.deepEqual(rule.spec.groups, groups, 'UPDATE_RULES=1 make test T=test/deployment writes it');
  });

  it('has a dashboard that asks only for metrics of docs/metrics.md, by labels that these have', () => {
    const metrics = new Map(documentedMetrics(join(projectRoot, 'docs/metrics.md')).map((m) => [m.name, m]));
    const { panels } = JSON.parse(read('monitoring/kaimai.json')) as { panels: Json[] };
    const rows = panels.filter(({ type }) => type === 'row').map(({ title }) => title);
    assert.deepEqual(rows, ['Sale', 'Pipeline', 'Instances', 'Processes']);
    const targets = panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }: Json) => [title, expr]));
    assert.ok(targets.length > 20);
    for (const [title, expr] of targets) {
      const asked = [...expr.matchAll(/\b(kaimai_\w+?)(_bucket|_sum|_count)?\b(?=[^\w]|$)(?:\{([^}]*)\})?/g)];
      assert.ok(asked.length > 0, `${title} asks for no metric`);
      for (const [, name = '', , matchers = ''] of asked) {
        const metric = metrics.get(name);
        assert.ok(metric, `${title} asks for ${name}, which no process exports`);
        const known = new Set([...metric.labels, 'job', 'instance', 'le']);
        const labels = [...matchers.matchAll(/(\w+)\s*[=!]/g)].map(([, label = '']) => label);
        const by = [...expr.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(', '));
        for (const label of [...labels, ...by]) assert.ok(known.has(label), `${title}: ${name} has no label ${label}`);
      }
    }
  });

  it('names no secret without a key, and no key that nothing reads', () => {
    const files = readdirSync(join(FOLDER, 'base')).filter((file) => file !== 'secrets.example.yaml');
    const asked = files.flatMap((file) =>
      [...read(`base/${file}`).matchAll(/\/run\/secrets\/(\w+)/g)].map(([, key]) => key),
    );
    const [{ stringData }] = objects('base/secrets.example.yaml') as [Json];
    assert.deepEqual([...new Set(asked)].sort(), Object.keys(stringData).sort());
    const made = readdirSync(join(projectRoot, 'deploy/secrets')).filter((file) => file !== 'README.md');
    assert.deepEqual(Object.keys(stringData).sort(), made.sort());
  });

  it('runs every background server of product in one of its deployments', () => {
    const deployments = objects('base/product.yaml').filter(({ kind }) => kind === 'Deployment');
    const roles = deployments.flatMap(({ spec }: Json) => {
      const { env } = spec.template.spec.containers[0];
      return env.find(({ name }: Json) => name === 'KAIMAI_SERVER_ROLES').value.split(',');
    });
    const module = readFileSync(join(projectRoot, 'internal/server/product-module.ts'), 'utf8');
    const known = [...module.matchAll(/new Background\(\s*'(\w+)'/g)].map(([, role]) => role);
    assert.deepEqual([...new Set(roles)].sort(), [...new Set(known)].sort());
  });

  it('has a clustered form that kustomize builds, with settings and metrics that exist', async () => {
    const settings = settingsOf(bootstrapSpec().schema, ENVIRONMENT_RULE.prefix).map((s) => s.variable);
    const [{ data }] = objects('clustered/configuration.yaml') as [Json];
    for (const variable of Object.keys(data)) {
      assert.ok(settings.includes(variable) || /^KAIMAI_(REDIS|RABBITMQ)_URL$/.test(variable), variable);
    }
    const metrics = documentedMetrics(join(projectRoot, 'docs/metrics.md')).map(({ name }) => name);
    for (const file of ['clustered/product-autoscaler.yaml', 'clustered/autoscaling.yaml']) {
      const [{ spec }] = objects(file) as [Json];
      const asked = spec.metrics.flatMap((m: Json) => m.pods?.metric.name ?? m.external?.metric.name ?? []);
      assert.equal(asked.length, 1, file);
      for (const name of asked) assert.ok(metrics.includes(name), `${file} asks for ${name}`);
    }
    const programs = findPrograms();
    if (!programs) return;
    const { stdout } = await promisify(execFile)(programs.kubectl, ['kustomize', join(FOLDER, 'clustered')]);
    const built: Json[] = parseAllDocuments(stdout).map((document) => document.toJS());
    const named = (kind: string, name: string) => built.find((o) => o.kind === kind && o.metadata.name === name);
    const variables = named('ConfigMap', 'kaimai').data;
    assert.ok(variables.KAIMAI_DATA_REDIS_NODES && !('KAIMAI_REDIS_URL' in variables));
    assert.equal(named('Deployment', 'resource').spec.replicas, 3);
    assert.equal(named('PodDisruptionBudget', 'product-api').spec.maxUnavailable, '25%');
    for (const { spec } of built.filter(({ kind }) => kind === 'Deployment')) {
      assert.equal(spec.template.spec.topologySpreadConstraints.length, 2);
    }
    assert.equal(named('HorizontalPodAutoscaler', 'product-api').spec.metrics.length, 2);
  });

  it('has an example of engines with the nodes that the clustered form names', () => {
    const engines = objects('clustered/engines.example.yaml');
    const [{ data }] = objects('clustered/configuration.yaml') as [Json];
    const redis = engines.find(({ kind }) => kind === 'StatefulSet');
    const nodes = Array.from({ length: redis.spec.replicas }, (_, i) => `redis-${i}.${redis.spec.serviceName}:6379`);
    assert.equal(data.KAIMAI_DATA_REDIS_NODES, nodes.join(','));
    const { replicas } = engines.find(({ kind }) => kind === 'RabbitmqCluster').spec;
    assert.equal(data.KAIMAI_RABBITMQ_URL.split(',').length, replicas);
  });
});
