// The acts of this tab, so that an undo names the act that it undoes and shows its clips at once.

class ActHistory {
  constructor() { this.undoable = []; this.redoable = []; }

  add(act, before) {
    this.undoable.push({ id: act.id, before, after: act.effects });
    this.redoable = [];
  }

  // The next act in a direction ("undo", "redo") with the labels of its clips afterwards; undefined: unknown here.
  step(direction) {
    const [from, to] = direction === "undo" ? [this.undoable, this.redoable] : [this.redoable, this.undoable];
    const entry = from.pop();
    if (!entry) return undefined;
    to.push(entry);
    return { id: entry.id, effects: direction === "undo" ? entry.before : entry.after };
  }

  // The server has refused these acts: there is nothing to undo.
  forget(ids) {
    this.undoable = this.undoable.filter((entry) => !ids.includes(entry.id));
    this.redoable = this.redoable.filter((entry) => !ids.includes(entry.id));
  }
}
