import { runProcess } from '../../internal/kratos/app/process.js';

process.exitCode = await runProcess({
  name: 'product',
  argv: process.argv.slice(2),
  wire: async (context) => (await import('./wire.js')).wire(context),
});
