import { register } from 'node:module';
import type { Config } from '../../conf/config.js';

/** A stop must not hang on a collector that is away. */
const SHUTDOWN_MS = 2_000;

/**
 * Starts OpenTelemetry, before anything that it watches is loaded: pg, ioredis and amqplib are given their spans as
 * they are imported. Statements are told without their parameters, and Redis commands without their arguments.
 *
 * @returns what sends the last spans and stops
 */
export async function startTracing(config: Config['trace'], name: string): Promise<() => Promise<void>> {
  register('@opentelemetry/instrumentation/hook.mjs', import.meta.url, {
    data: { include: ['pg', 'ioredis', 'amqplib'] },
  });
  const [sdk, { resourceFromAttributes }, { OTLPTraceExporter }, { registerInstrumentations }, pg, redis, amqp] =
    await Promise.all([
      import('@opentelemetry/sdk-trace-node'),
      import('@opentelemetry/resources'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/instrumentation'),
      import('@opentelemetry/instrumentation-pg'),
      import('@opentelemetry/instrumentation-ioredis'),
      import('@opentelemetry/instrumentation-amqplib'),
    ]);
  const provider = new sdk.NodeTracerProvider({
    resource: resourceFromAttributes({ 'service.name': `kaimai.${name}` }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(config.sampleRatio) }),
    spanProcessors: [
      new sdk.BatchSpanProcessor(new OTLPTraceExporter({ url: config.endpoint, timeoutMillis: SHUTDOWN_MS })),
    ],
  });
  provider.register();
  registerInstrumentations({
    tracerProvider: provider,
    instrumentations: [
      // The background servers look for work many times a second; only what belongs to a trace is told.
      new pg.PgInstrumentation({ requireParentSpan: true }),
      new redis.IORedisInstrumentation({ requireParentSpan: true, dbStatementSerializer: (command) => command }),
      new amqp.AmqplibInstrumentation(),
    ],
  });
  return async () => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, SHUTDOWN_MS);
    });
    await Promise.race([provider.shutdown().catch(() => undefined), late]);
    clearTimeout(timer);
  };
}
