import { register } from 'node:module';

export interface TracingOptions {
  /** URL of an OTLP/HTTP collector. */
  readonly endpoint: string;
  /** Share of new traces that are kept, 0 to 1. */
  readonly sampleRatio: number;
  readonly serviceName: string;
}

/** A stop must not hang on a collector that cannot be reached. */
const SHUTDOWN_MS = 2_000;

/**
 * Starts OpenTelemetry. It has to run before pg, ioredis and amqplib are imported, which are instrumented as they load.
 * Spans hold statements without their parameters, and Redis commands without their arguments.
 *
 * @returns a function that sends the last spans and stops
 */
export async function startTracing(options: TracingOptions): Promise<() => Promise<void>> {
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
    resource: resourceFromAttributes({ 'service.name': options.serviceName }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(options.sampleRatio) }),
    spanProcessors: [
      new sdk.BatchSpanProcessor(new OTLPTraceExporter({ url: options.endpoint, timeoutMillis: SHUTDOWN_MS })),
    ],
  });
  provider.register();
  registerInstrumentations({
    tracerProvider: provider,
    instrumentations: [
      // Background servers poll many times a second; only what belongs to a trace is exported.
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
