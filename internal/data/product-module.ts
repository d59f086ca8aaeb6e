import { ContainerModule } from 'inversify';
import { CatalogRepo } from '../biz/catalog/catalog.js';
import { ProductRepo } from '../biz/catalog/product.js';
import { StockRepo } from '../biz/catalog/stock.js';
import { IdGenerator } from '../biz/id-generator.js';
import { InstanceRepo } from '../biz/instance/instance.js';
import { OrderRepo } from '../biz/order/order-state.js';
import { PaymentRepo } from '../biz/order/payment.js';
import { Outbox } from '../biz/outbox.js';
import { Admission } from '../biz/seckill/admission.js';
import { PurchaseConsumer, PurchaseStream } from '../biz/seckill/purchase-stream.js';
import { SaleUnitsRepo } from '../biz/seckill/reserved-units.js';
import { SaleRepo } from '../biz/seckill/sale-state.js';
import { SettlementRepo } from '../biz/seckill/settlement.js';
import { WaitingRoom } from '../biz/seckill/waiting-room.js';
import { TransactionRunner } from '../biz/transaction.js';
import { LoginAttempts, PasswordHasher, TokenSigner, UserRepo } from '../biz/user/user.js';
import { CONFIG, type Config } from '../conf/config.js';
import { HealthProbe } from '../kratos/app/health-probe.js';
import { Resources } from '../kratos/app/resources.js';
import { Worker } from '../kratos/app/worker.js';
import { BacklogProbe } from '../kratos/background/background-meter.js';
import { Logger } from '../kratos/log/logger.js';
import { Trace } from '../kratos/tracing/trace.js';
import { Argon2PasswordHasher } from './crypto/password-hasher.js';
import { JwtTokenSigner } from './crypto/token-signer.js';
import { overdueBacklog } from './postgres/backlog.js';
import { PgCatalogRepo } from './postgres/catalog.js';
import { LeasedIdGenerator } from './postgres/id-generator.js';
import { PgInstanceRepo } from './postgres/instance.js';
import { PgOrderRepo } from './postgres/order.js';
import { PgOutbox } from './postgres/outbox.js';
import { PgPaymentRepo } from './postgres/payment.js';
import { Postgres } from './postgres/postgres.js';
import { PgProductRepo } from './postgres/product.js';
import { PgSaleRepo } from './postgres/sale.js';
import { PgSaleUnitsRepo } from './postgres/sale-units.js';
import { PgSettlementRepo } from './postgres/settlement.js';
import { PgStockRepo } from './postgres/stock.js';
import { PgUserRepo } from './postgres/user.js';
import { RedisAdmission } from './redis/admission.js';
import { RedisLoginAttempts } from './redis/login-attempts.js';
import { RedisPurchaseConsumer, RedisPurchaseStream } from './redis/purchase-stream.js';
import { RedisServer } from './redis/redis.js';
import { RedisWaitingRoom } from './redis/waiting-room.js';

/** Connections that both processes hold. It needs CONFIG, Logger, Worker and Resources. */
export const connectionsModule = new ContainerModule(({ bind }) => {
  bind(Postgres).toResolvedValue(openPostgres, [CONFIG, Logger, Worker, Resources]);
  bind(TransactionRunner).toService(Postgres);
  bind(HealthProbe).toResolvedValue(
    (db: Postgres): HealthProbe => ({ name: 'postgres', critical: true, check: () => db.ping() }),
    [Postgres],
  );
});

/** The product domain's side of its ports. */
export const productDataModule = new ContainerModule(({ bind }) => {
  bind(IdGenerator).toResolvedValue(openIdGenerator, [CONFIG, Logger, Resources]);
  bind(ProductRepo).toResolvedValue((db: Postgres) => new PgProductRepo(db), [Postgres]);
  bind(CatalogRepo).toResolvedValue((db: Postgres) => new PgCatalogRepo(db), [Postgres]);
  bind(StockRepo).toResolvedValue((db: Postgres) => new PgStockRepo(db), [Postgres]);
  bind(OrderRepo).toResolvedValue((db: Postgres) => new PgOrderRepo(db), [Postgres]);
  bind(PaymentRepo).toResolvedValue((db: Postgres) => new PgPaymentRepo(db), [Postgres]);
  bind(InstanceRepo).toResolvedValue((db: Postgres, trace: Trace) => new PgInstanceRepo(db, trace), [Postgres, Trace]);
  bind(SaleUnitsRepo).toResolvedValue((db: Postgres) => new PgSaleUnitsRepo(db), [Postgres]);
  bind(Outbox).toResolvedValue((db: Postgres) => new PgOutbox(db), [Postgres]);
  bind(SaleRepo).toResolvedValue((db: Postgres) => new PgSaleRepo(db), [Postgres]);
  bind(SettlementRepo).toResolvedValue((db: Postgres) => new PgSettlementRepo(db), [Postgres]);

  bind(UserRepo).toResolvedValue((db: Postgres) => new PgUserRepo(db), [Postgres]);
  bind(PasswordHasher).toResolvedValue(
    (config: Config, worker: Worker) => new Argon2PasswordHasher(config.auth.password, worker.count),
    [CONFIG, Worker],
  );
  bind(TokenSigner).toResolvedValue((config: Config) => new JwtTokenSigner(config.auth), [CONFIG]);
  bind(LoginAttempts).toResolvedValue(
    (redis: RedisServer, config: Config) => new RedisLoginAttempts(redis, config.auth.login),
    [RedisServer, CONFIG],
  );

  bind(RedisServer).toResolvedValue(openRedis, [CONFIG, Logger, Resources]);
  bind(HealthProbe).toResolvedValue(
    (redis: RedisServer): HealthProbe => ({ name: 'redis', critical: false, check: () => redis.ping() }),
    [RedisServer],
  );
  bind(Admission).toResolvedValue((redis: RedisServer) => new RedisAdmission(redis), [RedisServer]);
  bind(WaitingRoom).toResolvedValue((redis: RedisServer) => new RedisWaitingRoom(redis), [RedisServer]);
  bind(PurchaseStream).toResolvedValue((redis: RedisServer) => new RedisPurchaseStream(redis), [RedisServer]);
  bind(RedisPurchaseConsumer).toResolvedValue(
    (redis: RedisServer, db: Postgres, worker: Worker) => new RedisPurchaseConsumer(redis, db, worker.consumerName),
    [RedisServer, Postgres, Worker],
  );
  bind(PurchaseConsumer).toService(RedisPurchaseConsumer);
  bind(BacklogProbe).toResolvedValue(
    (consumer: RedisPurchaseConsumer): BacklogProbe => ({
      server: 'seckill_consumer',
      read: () => consumer.backlog(),
    }),
    [RedisPurchaseConsumer],
  );
  bind(BacklogProbe).toResolvedValue(overdueBacklog, [Postgres]);
});

async function openRedis(config: Config, logger: Logger, resources: Resources): Promise<RedisServer> {
  const { addr, readTimeoutMs, writeTimeoutMs, keyPrefix } = config.data.redis;
  const settings = { addr, readTimeoutMs, connectTimeoutMs: writeTimeoutMs, keyPrefix };
  const redis = new RedisServer(settings, (err) => logger.warn('a connection to Redis failed', { err }));
  resources.add('redis', async () => redis.close());
  // Without Redis the process still serves what needs none.
  await redis.ready(writeTimeoutMs);
  return redis;
}

function openPostgres(config: Config, logger: Logger, worker: Worker, resources: Resources): Postgres {
  const { source, poolSize, role, statementTimeoutMs, connectTimeoutMs } = config.data.database;
  const applicationName = `kaimai-${worker.process}-${worker.index}`;
  const db = new Postgres({ source, poolSize, role, statementTimeoutMs, connectTimeoutMs, applicationName }, (err) =>
    logger.warn('a connection to the database was lost', { err }),
  );
  resources.add('postgres', () => db.close());
  return db;
}

async function openIdGenerator(config: Config, logger: Logger, resources: Resources): Promise<IdGenerator> {
  const { source, connectTimeoutMs } = config.data.database;
  const ids = new LeasedIdGenerator(source, connectTimeoutMs, (err) =>
    logger.warn('no worker number for ids', { err }),
  );
  resources.add('id generator', () => ids.close());
  await ids.open();
  return ids;
}
