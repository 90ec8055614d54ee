import { OsImageError } from '../errors.ts';

interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly comment: string;
  readonly home: string;
  readonly shell: string;
}

interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: string[];
}

/** System ids that are handed out, downwards, as systemd does (sysusers.d(5)). */
const FIRST_DYNAMIC = 999;
const LAST_DYNAMIC = 100;

/**
 * The users and groups of an image, without running any program of it: the fixed ones of base-passwd, then what the
 * packages' `sysusers.d` files ask for, in the order of the files' names, so that equal packages give equal numbers.
 * Nobody has a password.
 */
export class SystemUsers {
  readonly #users: User[] = [];
  readonly #groups: Group[] = [];

  constructor(passwdMaster: string, groupMaster: string) {
    for (const line of lines(groupMaster)) {
      const [name = '', , gid = '', members = ''] = line.split(':');
      this.#groups.push({ name, gid: id(gid, line), members: members.split(',').filter(Boolean) });
    }
    for (const line of lines(passwdMaster)) {
      const [name = '', , uid = '', gid = '', comment = '', home = '', shell = ''] = line.split(':');
      this.#users.push({ name, uid: id(uid, line), gid: id(gid, line), comment, home, shell });
    }
  }

  /** One file of `sysusers.d`: lines of type `u`, `u!`, `g` and `m`; `r` (ranges) has no effect here. */
  add(text: string): void {
    for (const line of lines(text)) {
      const [type = '', name = '', wanted = '-', comment = '-', home = '-', shell = '-'] = fields(line);
      if (type === 'g' || type === 'g!') this.#group(name, wanted);
      else if (type === 'm') {
        this.#user(name, '-', '-', '-', '-');
        const group = this.#group(wanted, '-');
        if (!group.members.includes(name)) group.members.push(name);
      } else if (type === 'u' || type === 'u!') this.#user(name, wanted, comment, home, shell);
      else if (type !== 'r')
        throw new OsImageError('bad-recipe', `A sysusers line of type ${type} is not known: ${line}`);
    }
  }

  /** `passwd`, `group`, `shadow` and `gshadow`; every password is locked. */
  files(): { passwd: string; group: string; shadow: string; gshadow: string } {
    const text = (rows: string[]) => rows.map((row) => `${row}\n`).join('');
    const users = [...this.#users].sort((a, b) => a.uid - b.uid);
    const groups = [...this.#groups].sort((a, b) => a.gid - b.gid);
    return {
      passwd: text(users.map((u) => [u.name, 'x', u.uid, u.gid, u.comment, u.home, u.shell].join(':'))),
      group: text(groups.map((g) => [g.name, 'x', g.gid, g.members.join(',')].join(':'))),
      shadow: text(users.map((u) => `${u.name}:!*:1::::::`)),
      gshadow: text(groups.map((g) => `${g.name}:!*::${g.members.join(',')}`)),
    };
  }

  #group(name: string, wanted: string): Group {
    const known = this.#groups.find((group) => group.name === name);
    if (known) return known;
    const group = { name, gid: this.#number(wanted), members: [] };
    this.#groups.push(group);
    return group;
  }

  #user(name: string, wanted: string, comment: string, home: string, shell: string): void {
    if (this.#users.some((user) => user.name === name)) return;
    // "uid:gid" or "uid:group" names a group that is there; otherwise the user gets a group of its own name and number.
    const [uidText = '-', gidText] = wanted.split(':');
    const group = gidText === undefined ? this.#group(name, uidText) : this.#groupOf(gidText);
    const uid =
      uidText === '-' ? this.#number(gidText === undefined ? String(group.gid) : '-') : id(uidText, wanted);
    this.#users.push({
      name,
      uid,
      gid: group.gid,
      comment: or(comment, ''),
      home: or(home, '/'),
      shell: or(shell, uid === 0 ? '/bin/sh' : '/usr/sbin/nologin'),
    });
  }

  #groupOf(text: string): Group {
    const found = this.#groups.find(({ name, gid }) => name === text || String(gid) === text);
    if (!found)
      throw new OsImageError('bad-recipe', `A sysusers line names the group ${text}, which is not there`);
    return found;
  }

  #number(wanted: string): number {
    if (wanted !== '-') return id(wanted, wanted);
    const taken = new Set([...this.#users.map(({ uid }) => uid), ...this.#groups.map(({ gid }) => gid)]);
    for (let number = FIRST_DYNAMIC; number >= LAST_DYNAMIC; number--) if (!taken.has(number)) return number;
    throw new OsImageError('bad-recipe', 'No system user number is left');
  }
}

function lines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

function fields(line: string): string[] {
  return (line.match(/"[^"]*"|\S+/g) ?? []).map((field) => field.replace(/^"(.*)"$/, '$1'));
}

function id(text: string, line: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new OsImageError('bad-recipe', `Not a user or group number: ${line}`);
  return Number(text);
}

function or(value: string, otherwise: string): string {
  return value === '-' || value === '' ? otherwise : value;
}
