import mocha from 'mocha';

/**
 * Mocha's spec report with its summary replaced by the line that `make test` promises to end with: `N passed, N failed`.
 * What make checks besides (lint, say) adds to the figures by KAIMAI_CHECKS_PASSED.
 */
export default class Reporter extends mocha.reporters.Spec {
  constructor(runner: mocha.Runner, options: mocha.MochaOptions) {
    super(runner, options);
  }

  override epilogue(): void {
    const { passes, failures, pending } = this.stats;
    const line = `${passes} passed, ${failures} failed`;
    console.log(pending > 0 ? `\n${pending} skipped` : '');
    if (this.failures.length > 0) mocha.reporters.Base.list(this.failures);
    console.log(line);
  }
}
