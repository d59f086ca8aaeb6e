import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectRoot } from '../../internal/local/project.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { isAlive, killProcessNow, type SpawnedProcess, stopProcess } from '../../internal/local/servers/process.js';
import { pickAddresses, SupervisedService } from '../../internal/local/services.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('A supervised service', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const folder = mkdtempSync(join(tmpdir(), 'kaimai-supervised-'));
  const children: SpawnedProcess[] = [];
  const never = new AbortController().signal;

  after(async () => {
    await Promise.all(children.map(stopProcess));
    rmSync(folder, { recursive: true, force: true });
  });

  async function newService(keepStandby: boolean): Promise<SupervisedService> {
    const addresses = await pickAddresses('product', freePort);
    return new SupervisedService('product', {
      addresses,
      env: servers.env(),
      config: join(projectRoot, 'configs/product.yaml'),
      logFile: join(folder, 'log'),
      timeoutMs: 120_000,
      keepStandby,
      spawned: (child) => children.push(child),
    });
  }

  function commandOf(child: SpawnedProcess | undefined): string {
    assert.ok(child);
    return execFileSync('ps', ['-o', 'args=', '-p', String(child.pid)], { encoding: 'utf8' });
  }

  it('restarts at the same address after it was killed', async () => {
    const service = await newService(false);
    const { metrics } = await service.start(never);
    const killed = children.at(-1);
    assert.ok(killed && service.isRunning());
    killProcessNow(killed);
    await eventually('the end', () => !service.isRunning());
    assert.match(service.describeExit(), /^product ended by SIGKILL\. The end of its log/);
    await service.restart(never);
    assert.notEqual(children.at(-1)?.pid, killed.pid);
    assert.equal((await fetch(`http://${metrics}/readyz`)).status, 200);
    assert.doesNotMatch(commandOf(children.at(-1)), /standby\.js/);
  });

  it('restarts from its standby process, each time from a new one', async () => {
    const service = await newService(true);
    const { metrics } = await service.start(never);
    assert.doesNotMatch(commandOf(children.at(-1)), /standby\.js/);
    for (let restart = 1; restart <= 2; restart++) {
      const before = children.at(-1);
      await service.restart(never);
      assert.ok(before && !isAlive(before));
      assert.match(commandOf(children.at(-1)), /standby\.js/);
      assert.equal((await fetch(`http://${metrics}/readyz`)).status, 200);
    }
  });
});
