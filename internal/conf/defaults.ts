import type { JsonObject } from '@bufbuild/protobuf';

/** Refused in production. */
export const DEVELOPMENT_TOKEN = 'kaimai-development-token';

/** The default secret of configs/product.yaml for signing tokens. Refused in production. */
export const DEVELOPMENT_JWT_SECRET = 'kaimai-development-jwt-secret-32b';

/** Refused in production by the product process, which signs with it. */
export const DEVELOPMENT_TOKEN_SECRET = 'kaimai-development-token-secret';

/** Refused in production by the product process, which signs guest tokens with it. */
export const DEVELOPMENT_GUEST_SECRET = 'kaimai-development-guest-secret';

/** The defaults of `Bootstrap` as proto JSON. A test compares them with the comments of conf.proto. */
export const DEFAULTS: JsonObject = {
  server: {
    http: {
      addr: '127.0.0.1:8000',
      timeout: '10s',
      envelope: false,
      maxBodyBytes: 262144,
      strictBody: true,
      strictQuery: true,
      errorShape: 'reason',
      corsOrigins: [],
      tls: { cert: '', key: '', clientCa: '' },
    },
    rateLimit: { enabled: true, cpuPercent: 80, window: '10s', minInFlight: 1000 },
    grpc: {
      addr: '127.0.0.1:9000',
      timeout: '10s',
      maxMessageBytes: 262144,
      writeTimeout: '30s',
      tls: { cert: '', key: '', clientCa: '' },
    },
    workers: '1',
    replica: '',
    roles: [],
    metricsAddr: '',
    streamMaxAge: '1800s',
    drainDelay: '0s',
    stopTimeout: '10s',
    environment: '',
    trustedProxies: [],
    limits: { connections: 20000, connectionsPerAddress: 2000, streams: 10000, streamsPerAddress: 200 },
  },
  client: { tls: { ca: '', cert: '', key: '', serverName: '' } },
  data: {
    database: {
      driver: 'postgres',
      source: '',
      password: '',
      poolSize: 8,
      role: '',
      statementTimeout: '10s',
      connectTimeout: '3s',
      pooler: 'none',
    },
    redis: { addr: '', password: '', readTimeout: '1s', writeTimeout: '1s', keyPrefix: '' },
    rabbitmq: {
      url: '',
      password: '',
      queue: 'resource.instance.created',
      prefetch: 500,
      refundQueue: 'order.refund.requested',
      queueType: 'classic',
      confirmTimeout: '5s',
    },
  },
  auth: {
    mode: 'header',
    internalToken: DEVELOPMENT_TOKEN,
    bffToken: '',
    adminToken: '',
    jwt: {
      algorithm: 'HS256',
      secret: '',
      publicKey: '',
      privateKey: '',
      lifetime: '7200s',
      issuer: '',
      audience: '',
      clockTolerance: '5s',
    },
    password: { memoryKib: 19456, iterations: 2, parallelism: 1, concurrency: 1, queue: 32 },
    login: { maxAttempts: 10, window: '900s', maxAttemptsPerAddress: 100 },
    registerRate: { perSecond: 1, burst: 20 },
    loginRate: { perSecond: 10, burst: 50 },
  },
  payment: {
    secret: '',
    previousSecret: '',
    simulator: { delay: '0s', failureRate: 0, lostCallbackRate: 0, repeatedCallbackRate: 0, baseUrl: '' },
    lookUpAfter: '30s',
  },
  trace: { endpoint: '', sampleRatio: 1 },
  registry: { kind: 'none', endpoints: [], prefix: '/kaimai/services', ttl: '15s', advertiseHost: '', weight: 100 },
  log: { level: 'info', pretty: false },
  order: {
    payTimeout: '900s',
    sweepInterval: '1s',
    sweepBatch: 200,
    confirmAfter: '1296000s',
    confirmInterval: '10s',
    confirmBatch: 200,
    userRate: { perSecond: 10, burst: 20 },
    addressRate: { perSecond: 0, burst: 1 },
    afterSaleWindow: '604800s',
  },
  refund: { maxAttempts: 10, retryBackoff: '5s', lease: '60s', pollInterval: '1s' },
  retention: {
    interval: '3600s',
    batchSize: 500,
    outbox: '604800s',
    inbox: '2592000s',
    orderEvents: '7776000s',
    deadLetters: '2592000s',
    guestCarts: '86400s',
  },
  cart: {
    saveAfter: '5s',
    saveBatch: 200,
    ttl: '604800s',
    guestTtl: '2592000s',
    guestTokenSecret: DEVELOPMENT_GUEST_SECRET,
    previousGuestTokenSecret: '',
  },
  seckill: {
    batchSize: 500,
    block: '1s',
    claimIdle: '15s',
    maxDeliveries: 5,
    backlogLimit: 200000,
    userRate: { perSecond: 10, burst: 20 },
    addressRate: { perSecond: 0, burst: 1 },
    tokenSecret: DEVELOPMENT_TOKEN_SECRET,
    previousTokenSecret: '',
    tokenTtl: '120s',
    streamWindow: 1024,
    waitingRoomLimit: 1000000,
  },
  outbox: { batchSize: 500, pollInterval: '0.2s', lease: '5s', resendAfter: '120s' },
  resource: {
    provisioner: 'simulator',
    simulator: { delay: '0s', failureRate: 0, transientFailureRate: 0 },
    productAddr: '127.0.0.1:9000',
    concurrency: 128,
    maxAttempts: 5,
    retryBackoff: '0.2s',
    lease: '5s',
    pollInterval: '0.2s',
  },
};
