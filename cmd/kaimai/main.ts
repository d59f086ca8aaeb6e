#!/usr/bin/env node
import { Command } from 'commander';
import { errorText } from '../../internal/kratos/errors/error-text.js';
import { adoptRunEnv } from '../../internal/local/run-env.js';
import { auditCommand } from './audit.js';
import { deadLettersCommand } from './dead-letters.js';
import { demoCommand } from './demo.js';
import { importUsersCommand } from './import-users.js';
import { migrateCommand } from './migrate.js';
import { orderCommand } from './order.js';
import { refundsCommand } from './refunds.js';
import { saleCommand } from './sale.js';
import { statusCommand } from './status.js';
import { upCommand } from './up.js';

const program = new Command('kaimai')
  .description('Runs and operates Kaimai')
  .showHelpAfterError()
  .addCommand(upCommand)
  .addCommand(migrateCommand)
  .addCommand(importUsersCommand)
  .addCommand(demoCommand)
  .addCommand(auditCommand)
  .addCommand(deadLettersCommand)
  .addCommand(statusCommand)
  .addCommand(saleCommand)
  .addCommand(orderCommand)
  .addCommand(refundsCommand)
  .hook('preAction', (_, command) => {
    if (command !== upCommand) adoptRunEnv();
  });

try {
  await program.parseAsync();
} catch (error) {
  console.error(`kaimai: ${errorText(error)}`);
  process.exitCode = 1;
}
