// Moves the wall clock of the process that loads it: `node --import=…/clock.js`, by KAIMAI_TEST_CLOCK_MS.
const offsetMs = Number(process.env.KAIMAI_TEST_CLOCK_MS ?? 0);
const RealDate = Date;

class MovedDate extends RealDate {
  constructor(...args: unknown[]) {
    if (args.length === 0) super(RealDate.now() + offsetMs);
    else super(...(args as [number]));
  }

  static override now(): number {
    return RealDate.now() + offsetMs;
  }
}

globalThis.Date = MovedDate as DateConstructor;
