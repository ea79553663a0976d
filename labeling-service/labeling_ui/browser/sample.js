// Clips to look at, in groups, that take no label here: what a bulk act would do.

const show = (home, data) => {
  const key = JSON.stringify(data.groups.map((group) => [group.title, group.cards.map((card) => card.id)]));
  if (home.posewatchKey === key) return;
  home.posewatchKey = key;
  const settings = new Settings(data.who, data.welfare);
  for (const [name, on] of Object.entries({ blur: settings.blur, grey: settings.grey, bones: settings.view === "skeleton" })) home.classList.toggle(name, on);
  const players = [];
  home.replaceChildren(...data.groups.flatMap(({ title, cards }) => {
    const strip = create("div", "strip sample");
    for (const card of cards) {
      const player = new Player(settings);
      player.visible = true;
      player.show(card, data.words);
      player.box.addEventListener("click", () => player.toggle());
      players.push(player);
      const figure = create("figure");
      figure.dataset.clip = card.id;
      const caption = create("figcaption", "", `${Math.round(card.confidence * 100)} % · ${card.shown || card.video} ${interval(card)}`);
      figure.append(player.box, caption);
      strip.append(figure);
    }
    return [create("p", "group-title", title), strip];
  }));
  const draw = (now) => {
    if (!home.isConnected || home.posewatchKey !== key) return;
    for (const player of players) player.draw(now);
    requestAnimationFrame(draw);
  };
  requestAnimationFrame(draw);
};

export default function ({ data, parentElement }) { show(parentElement.querySelector(".grid"), data); }
