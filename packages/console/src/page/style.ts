/** The style of the console: one column on a phone, dark where the reader wants it dark. */
export const CONSOLE_STYLE: string = `:root {
  color-scheme: light dark;
  --paper: #f7f8fa; --card: #fff; --ink: #16202c; --soft: #55606d; --line: #d5dbe2;
  --accent: #1f5fd0; --good: #12734a; --bad: #b3261e; --warn: #8a5300; --wash: #eef1f5;
  --mono: ui-monospace, "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #10151b; --card: #181f27; --ink: #e6ebf1; --soft: #a3afbc; --line: #2c3641;
    --accent: #7fb0ff; --good: #6bd6a0; --bad: #ff9d94; --warn: #f2c25c; --wash: #202934;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 0 1.25rem 2rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1.5rem; padding: 1.25rem 0 .5rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
#chain { margin: 0; color: var(--soft); flex: 1 1 16rem; }
#chain.warn { color: var(--warn); }
#problem { border: 2px solid var(--bad); border-radius: .5rem; padding: .6rem .9rem; color: var(--bad); }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--card); padding: .3rem .6rem; }
.cards { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); }
.tiles { list-style: none; padding: 0; margin: .6rem 0 0; display: grid; gap: .7rem; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); }
.tile { background: var(--card); border: 1px solid var(--line); border-left: .3rem solid var(--line); border-radius: .6rem; padding: .6rem .8rem; min-width: 0; overflow-wrap: anywhere; }
.tile.good { border-left-color: var(--good); } .tile.bad { border-left-color: var(--bad); } .tile.warn { border-left-color: var(--warn); }
.tile a { color: var(--soft); text-decoration: none; font-size: .9em; }
.tile a:hover { text-decoration: underline; }
.tile strong { display: block; color: var(--ink); font-size: 1.15rem; }
.tile p { margin: 0; color: var(--soft); font-size: .9em; display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical; overflow: hidden; }
.card, .wide { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1rem; min-width: 0; }
.wide { overflow-x: auto; padding: .3rem .6rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem .9rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; min-width: 46rem; }
time { white-space: nowrap; }
caption { text-align: left; color: var(--soft); padding: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .5rem; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; }
.hex { font-family: var(--mono); font-size: .85em; overflow-wrap: anywhere; }
td .hex { display: inline-block; min-width: 13rem; vertical-align: top; }
.text { overflow-wrap: anywhere; white-space: pre-wrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); } .soft { color: var(--soft); }
.tag { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .6rem; font-size: .85em; white-space: nowrap; }
.pager { display: flex; gap: .8rem; align-items: center; padding: .5rem; }
button { font: inherit; color: var(--accent); background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .25rem .8rem; cursor: pointer; }
button:disabled { color: var(--soft); cursor: default; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
ul { margin: 0; padding-left: 1.1rem; }
footer { color: var(--soft); font-size: .9em; margin-top: 2.5rem; }
@media (prefers-reduced-motion: no-preference) { button { transition: background .15s; } }
`;
