/** An application that is a script of the guest's node: it is up before Docker is. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { editApp } from './command-line.ts';

/** What its page shows. */
export interface ScriptPage {
  /** How often it started with this data disk. */
  readonly starts: number;
  readonly instance_id: string;
  /** Of path "wallet", hex. */
  readonly key: string;
}

/** Counts its starts on the data disk, and shows them with what the agent says. */
const program = `
const fs = require("node:fs"), http = require("node:http"), file = "/dstack/persistent/starts";
const starts = (fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "") + "x";
// On the disk before anybody is told: a killed machine loses what only its memory has.
fs.writeFileSync(file, starts, { flush: true });
const ask = (method, body) => new Promise((resolve, reject) => {
  const options = { socketPath: "/run/dstack.sock", path: "/" + method, method: "POST", headers: { "content-type": "application/json" } };
  http.request(options, (answer) => {
    let text = "";
    answer.on("data", (part) => { text += part; }).on("end", () => resolve(JSON.parse(text)));
  }).on("error", reject).end(JSON.stringify(body));
});
(async () => {
  const { instance_id } = await ask("Info", {});
  const { key } = await ask("GetKey", { path: "wallet", purpose: "signing" });
  const page = JSON.stringify({ starts: starts.length, instance_id, key });
  http.createServer((_, response) => response.end(page)).listen(8080);
})();
`;

/** Makes it the application of a project, with more members of `app-compose.json`. */
export function useScriptApp(project: string, members: { readonly [member: string]: unknown }): void {
  const compose = {
    manifest_version: 2,
    name: 'app',
    runner: 'bash',
    bash_script: `exec /usr/lib/dstack/node -e '${program}'`,
    storage_fs: 'ext4',
    secure_time: false,
    ...members,
  };
  writeFileSync(join(project, 'exact.json'), JSON.stringify(compose));
  editApp(project, { app_compose_file: 'exact.json', local_config: { data_size: 3 } });
}
