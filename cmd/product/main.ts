import { runProcess } from '../../internal/server/process.js';
import { wire } from './wire.js';

process.exitCode = await runProcess({
  name: 'product',
  argv: process.argv.slice(2),
  wire,
});
