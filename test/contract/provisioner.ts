import assert from 'node:assert/strict';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Provisioner } from '../../internal/biz/instance/instance-job.js';
import type { InstanceJob } from '../../internal/biz/instance/instance-log.js';
import { claimedJob } from '../support/instances.js';
import { freshId } from './backend.js';

/** A working provisioner, and what a test must read without it. */
export interface ProvisionerBackend {
  readonly provisioner: Provisioner;
  /** Whether the job's instance exists, with the job's owner and size. */
  exists(job: InstanceJob): Promise<boolean>;
  close(): Promise<void>;
}

/** The contract of a provisioner. */
export function provisionerContract(name: string, open: () => Promise<ProvisionerBackend>): void {
  describe(`Provisioner ${name}`, () => {
    let backend: ProvisionerBackend;
    let provisioner: Provisioner;
    const { signal } = new AbortController();

    before(async () => {
      backend = await open();
      provisioner = backend.provisioner;
    });
    after(() => backend.close());

    it('creates an instance once when it is requested repeatedly and concurrently', async () => {
      const job = newJob();
      const outcomes = await Promise.all(Array.from({ length: 20 }, () => provisioner.create(job, signal)));
      for (const outcome of outcomes) assert.equal(outcome.kind, 'running', JSON.stringify(outcome));
      assert.equal((await provisioner.create(job, signal)).kind, 'running');
      assert.ok(await backend.exists(job));
    });

    it('creates many instances concurrently', async () => {
      const jobs = Array.from({ length: 100 }, () => newJob());
      const outcomes = await Promise.all(jobs.map((job) => provisioner.create(job, signal)));
      assert.ok(outcomes.every((o) => o.kind === 'running'));
      for (const job of jobs) assert.ok(await backend.exists(job));
    });

    it('fails for good if another instance has the name, and leaves that instance alone', async () => {
      const job = newJob();
      await provisioner.create(job, signal);
      for (const other of [
        { ...job, userId: formatUserId('666') },
        { ...job, size: { ...job.size, cpus: job.size.cpus + 1 } },
        { ...job, productId: job.productId + 1n },
      ]) {
        assert.equal((await provisioner.create(other, signal)).kind, 'failed');
        await provisioner.remove(other);
        assert.ok(await backend.exists(job));
      }
    });

    it('creates nothing once the lease is over', async () => {
      const job = { ...newJob(), leaseEndsAt: new Date(Date.now() - 60_000) };
      assert.equal((await provisioner.create(job, signal)).kind, 'retry');
      assert.ok(!(await backend.exists(job)));
    });

    it('lists what exists with its labels, and removes exactly a listed instance', async () => {
      const job = newJob();
      await provisioner.create(job, signal);
      const listed = (await provisioner.list()).find(({ instanceId }) => instanceId === job.instanceId);
      assert.ok(listed);
      const { name, userId, productId, size } = job;
      assert.deepEqual(
        [listed.name, listed.userId, listed.productId, listed.size, listed.ready],
        [name, userId, productId, size, true],
      );
      await provisioner.remove(job);
      await provisioner.create({ ...job, productId: productId + 1n }, signal);
      await provisioner.removeListed(listed);
      assert.ok(await backend.exists({ ...job, productId: productId + 1n }), 'its successor was removed');
      const successor = (await provisioner.list()).find(({ instanceId }) => instanceId === job.instanceId);
      assert.ok(successor);
      await provisioner.removeListed(successor);
      assert.ok(!(await provisioner.list()).some(({ instanceId }) => instanceId === job.instanceId));
    });

    it('removes an instance, and accepts one that does not exist', async () => {
      const job = newJob();
      await provisioner.remove(job);
      await provisioner.create(job, signal);
      await provisioner.remove(job);
      assert.ok(!(await backend.exists(job)));
      await provisioner.remove(job);
    });
  });
}

function newJob(): InstanceJob {
  return claimedJob(freshId());
}
