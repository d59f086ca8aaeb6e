import assert from 'node:assert/strict';
import { formatUserId } from '../../internal/biz/identity.js';
import { InstanceLifeUsecase } from '../../internal/biz/instance/instance-life.js';
import { InstanceReconcileUsecase } from '../../internal/biz/instance/instance-reconcile.js';
import { PgInstanceLifeRepo } from '../../internal/data/postgres/instance-life.js';
import { PgInstanceLogRepo } from '../../internal/data/postgres/instance-log.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { SimulatedProvisioner } from '../../internal/data/postgres/provisioner-simulator.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { instanceOrder, openPostgres } from '../support/instances.js';
import { useServers } from '../support/servers.js';

const OWNER = { role: 'USER', userId: formatUserId('123') } as const;
const OTHER = { role: 'USER', userId: formatUserId('124') } as const;
const OPERATOR = { role: 'ADMIN', userId: undefined } as const;
const PAGE = { offset: 0, limit: 10 };

describe('The life of an instance', () => {
  const servers = useServers('postgres');
  let db: Postgres;
  let logs: PgInstanceLogRepo;
  let repo: PgInstanceLifeRepo;
  let provisioner: SimulatedProvisioner;
  let life: InstanceLifeUsecase;
  let reconcile: InstanceReconcileUsecase;

  before(() => {
    db = openPostgres(servers.postgresUrl, 'kaimai_resource');
    logs = new PgInstanceLogRepo(db);
    repo = new PgInstanceLifeRepo(db);
    provisioner = new SimulatedProvisioner(db, { delayMs: 0, failureRate: 0, transientFailureRate: 0 });
    life = new InstanceLifeUsecase(repo);
    const policy = { intervalMs: 1, orphanGraceMs: 0, leaseMs: 5_000 };
    reconcile = new InstanceReconcileUsecase(repo, provisioner, policy, new SilentLogger());
  });
  after(() => db.close());
  beforeEach(async () => {
    for (const table of ['instance_logs', 'simulated_instances', 'instance_removals']) {
      await db.pool.query(`DELETE FROM ${table}`);
    }
  });

  /** An instance that was created ten seconds ago, and reported. */
  async function created(id: bigint): Promise<void> {
    await logs.insert([instanceOrder(id)]);
    const job = await logs.claimToCreate(60_000);
    assert.ok(job);
    await provisioner.create(job);
    await logs.settle({ job, status: 'SUCCESS', reason: '', address: '10.0.0.7' });
    await db.pool.query(`UPDATE instance_logs SET reported_at = now(), updated_at = now() - interval '10 s'`);
  }
  const stateOf = async (id: bigint) => (await life.get(OPERATOR, id)).state;
  const exists = async () => (await provisioner.list()).map(({ instanceId }) => instanceId);

  it('is shown to its owner and to operators only', async () => {
    await logs.insert([instanceOrder(1n)]);
    assert.equal(await stateOf(1n), 'STARTING');
    await logs.insert([instanceOrder(2n)]);
    const own = await life.list(OWNER, {}, PAGE);
    assert.deepEqual([own.total, (await life.list(OTHER, {}, PAGE)).total], [2n, 0n]);
    assert.equal((await life.list(OPERATOR, { userId: OTHER.userId }, PAGE)).total, 0n);
    await assert.rejects(life.get(OTHER, 1n), /no instance 1/);
    await assert.rejects(life.delete(OTHER, 1n), /no instance 1/);
  });

  it('ends when its owner deletes it, once, and after its creation was reported', async () => {
    await created(1n);
    await db.pool.query('UPDATE instance_logs SET reported_at = NULL');
    assert.equal((await life.delete(OWNER, 1n)).state, 'REMOVING');
    assert.equal(await reconcile.claimRemovals(), undefined);
    await db.pool.query('UPDATE instance_logs SET reported_at = now()');
    const removals = await reconcile.claimRemovals();
    assert.ok(removals);
    assert.equal(await reconcile.claimRemovals(), undefined, 'another worker has it');
    assert.equal(await reconcile.remove(removals), undefined);
    assert.deepEqual([await stateOf(1n), await exists()], ['REMOVED', []]);
    const again = await life.delete(OPERATOR, 1n);
    assert.deepEqual([again.state, again.reason], ['REMOVED', 'deleted by its owner']);
    assert.equal((await life.list(OWNER, {}, PAGE)).total, 0n);
    assert.equal((await life.list(OWNER, { state: 'REMOVED' }, PAGE)).total, 1n);
  });

  it('is removed although the removal was requested before its creation', async () => {
    await repo.requestRemovals([{ instanceId: 1n, reason: 'refund 9' }]);
    await created(1n);
    const removals = await reconcile.claimRemovals();
    assert.ok(removals);
    await reconcile.remove(removals);
    assert.deepEqual([await stateOf(1n), await exists()], ['REMOVED', []]);
  });

  it('is lost when it is gone, and an instance that no record knows is removed', async () => {
    await created(1n);
    await created(2n);
    await db.pool.query(`DELETE FROM simulated_instances WHERE instance_id = 1`);
    await db.pool.query(`INSERT INTO simulated_instances (name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image)
      SELECT 'inst-' || i, i, user_id, product_id, cpus, memory_mb, gpu, image FROM simulated_instances, unnest(ARRAY[3, 4]) AS i`);
    // The product domain knows the fourth, as after a restored backup of the logs.
    const product = openPostgres(servers.postgresUrl, 'kaimai_product');
    await product.pool.query(`INSERT INTO instance_requests (instance_id, product_id, user_id, source, source_id)
      VALUES (4, 1001, '${OWNER.userId}', 'ORDER', '4')`);
    await product.close();
    assert.deepEqual(await reconcile.compare(), { changed: 1, lost: 1, orphansRemoved: 1 });
    assert.deepEqual([await stateOf(1n), await stateOf(2n), await exists()], ['LOST', 'RUNNING', [2n, 4n]]);
    assert.deepEqual(await repo.countStates(), { RUNNING: 1, DOWN: 0, LOST: 1, REMOVING: 0 });
  });
});
