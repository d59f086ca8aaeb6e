import { runProcess } from '../../internal/server/process.js';
import { wire } from './wire.js';

process.exitCode = await runProcess({
  name: 'resource',
  argv: process.argv.slice(2),
  wire,
});
