import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    addr: { type: 'string', default: '127.0.0.1:9000' },
    http: { type: 'string', default: '127.0.0.1:8000' },
    redis: { type: 'string', default: 'redis://127.0.0.1:6379' },
    script: { type: 'string', default: 'admit.lua' },
    proto: { type: 'string', default: 'seckill.proto' },
    workers: { type: 'string', default: '1' },
  },
});

export const settings = { ...values, workers: Number(values.workers) };
