/** The pools, connections and channels that a process has to close when it ends. */
export class Resources {
  private readonly open: { readonly name: string; readonly close: () => Promise<void> }[] = [];

  /** Adds a resource that is closed after every server has stopped; the last one added is closed first. */
  add(name: string, close: () => Promise<void>): void {
    this.open.push({ name, close });
  }

  /** Closes everything, even if some fail. @throws AggregateError of all failures */
  async close(): Promise<void> {
    const errors: Error[] = [];
    for (let r = this.open.pop(); r; r = this.open.pop()) {
      try {
        await r.close();
      } catch (err) {
        errors.push(new Error(`cannot close ${r.name}`, { cause: err }));
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, errors.map((e) => e.message).join('; '));
  }
}
