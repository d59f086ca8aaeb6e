import { MemoryStockGate } from '../support/memory/stock-gate.js';
import { useServers } from '../support/servers.js';
import { redisStockGateBackend, stockGateContract } from './stock-gate.js';

describe('the double of the stock gates in Redis', () => {
  stockGateContract('in memory', async () => ({ gate: new MemoryStockGate(), close: () => {} }));
});

describe('stock gates in Redis', () => {
  const servers = useServers('redis');
  stockGateContract('on Redis', () => redisStockGateBackend({ addr: servers.redisUrl }));
});
