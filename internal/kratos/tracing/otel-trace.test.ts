import assert from 'node:assert/strict';
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { OtelTrace } from './otel-trace.js';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN_ID = '00f067aa0ba902b7';
const PLACE = `00-${TRACE_ID}-${SPAN_ID}-01`;

describe('OtelTrace', () => {
  const otel = new OtelTrace();

  describe('without a tracing SDK', () => {
    it('captures nothing and runs the work', async () => {
      assert.equal(otel.capture(), undefined);
      assert.equal(await otel.resume('job', PLACE, async () => 7), 7);
      assert.equal(
        otel.within(PLACE, () => 8),
        8,
      );
    });
  });

  describe('with a tracing SDK', () => {
    const exporter = new InMemorySpanExporter();
    const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });

    before(() => provider.register());
    afterEach(() => exporter.reset());
    after(async () => {
      await provider.shutdown();
      trace.disable();
      context.disable();
      propagation.disable();
    });

    it('resumes a trace in a span of its own, which the work can capture', async () => {
      const captured = await otel.resume('job', PLACE, async () => otel.capture());
      const [span, ...rest] = exporter.getFinishedSpans();
      assert.deepEqual(rest, []);
      assert.equal(span?.name, 'job');
      assert.equal(span.kind, SpanKind.CONSUMER);
      assert.equal(span.parentSpanContext?.spanId, SPAN_ID);
      assert.equal(captured, `00-${TRACE_ID}-${span.spanContext().spanId}-01`);
      assert.equal(span.status.code, SpanStatusCode.UNSET);
    });

    it('marks the span of failed work and throws its error', async () => {
      const failure = new Error('no capacity');
      await assert.rejects(
        otel.resume('job', PLACE, () => Promise.reject(failure)),
        failure,
      );
      const [span] = exporter.getFinishedSpans();
      assert.deepEqual(span?.status, { code: SpanStatusCode.ERROR, message: 'no capacity' });
    });

    it('makes no span for work without a trace', async () => {
      assert.equal(await otel.resume('job', undefined, async () => otel.capture()), undefined);
      assert.deepEqual(exporter.getFinishedSpans(), []);
    });

    it('continues a trace without a span of its own', () => {
      const traceIds = (place: string | undefined) =>
        otel.within(place, () => trace.getSpanContext(context.active())?.traceId);
      assert.equal(traceIds(PLACE), TRACE_ID);
      assert.equal(traceIds(undefined), undefined);
      assert.deepEqual(exporter.getFinishedSpans(), []);
    });

    it('captures nothing outside of a span', () => {
      assert.equal(otel.capture(), undefined);
    });

    it('captures nothing of a trace that is not sampled', async () => {
      const captured = await otel.resume('job', `00-${TRACE_ID}-${SPAN_ID}-00`, async () => otel.capture());
      assert.equal(captured, undefined);
    });
  });
});
