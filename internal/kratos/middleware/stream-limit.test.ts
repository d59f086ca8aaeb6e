import assert from 'node:assert/strict';
import type { DescMethod } from '@bufbuild/protobuf';
import { KratosError } from '../errors/error.js';
import type { Call } from '../transport/call.js';
import { ClientAddresses } from '../transport/client-address.js';
import { streamLimit } from './stream-limit.js';

describe('streamLimit', () => {
  const method = (methodKind: string) => ({ methodKind }) as DescMethod;
  const from = (address: string) =>
    ({ peer: `${address}:1`, metadataAll: () => [], metadata: () => undefined }) as unknown as Call;
  const limit = streamLimit({ max: 3, maxPerAddress: 2 }, new ClientAddresses([]));
  const refusedBy = (limited: string) => (err: unknown) =>
    err instanceof KratosError && err.reason === 'RATE_LIMITED' && err.metadata.limited === limited;

  it('bounds the open streams of an address and of the process, and counts those that end', () => {
    const open = limit.of(method('server_streaming'))!;
    const ends = [open(from('192.0.2.1')), open(from('192.0.2.1'))];
    assert.throws(() => open(from('192.0.2.1')), refusedBy('address'));
    ends.push(open(from('192.0.2.2')));
    assert.throws(() => open(from('192.0.2.3')), refusedBy('process'));
    for (const end of ends.splice(0)) end(undefined);
    for (let i = 0; i < 10; i++) open(from('192.0.2.1'))(undefined);
  });

  it('does not count calls with a single reply', () => {
    assert.equal(limit.of(method('unary')), undefined);
  });
});
