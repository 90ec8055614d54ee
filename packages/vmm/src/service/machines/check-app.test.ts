import { expect, it } from 'vitest';
import { checkApp } from './check-app.ts';

const HOST = { version: '', commandLine: '', hasTee: false, gpus: 0 };

function check(compose: string, members: object = {}, sealed = new Uint8Array()): unknown {
  const app = { manifest_version: 2, name: 'x', runner: 'docker-compose', docker_compose_file: compose };
  return checkApp(JSON.stringify({ ...app, ...members }), '', sealed, HOST);
}

it('refuses a build whose context stays with its author, as the command line does', () => {
  const text = 'services: {web: {build: .}}';
  expect(() => check(text)).toThrow(
    expect.objectContaining({
      code: 'bad_option',
      message:
        'build of service web: the build context . does not travel to the machine; push an image, and name it under image',
    }),
  );
  expect(() => check(text, { pre_launch_script: '# nothing' })).toThrow('build context');
  expect(check(text, { pre_launch_script: 'make context' })).toBeDefined();
  expect(check('services: {web: {build: "https://git.example/x.git"}}')).toBeDefined();
  expect(check('services: {web: {build: {context: ., dockerfile_inline: FROM x}}}')).toBeDefined();
});

it('refuses other files that stay, and takes the sealed environment', () => {
  expect(() => check('services: {web: {image: x, env_file: other.env}}')).toThrow('the file other.env');
  expect(check('services: {web: {image: x, env_file: .env}}', {}, new Uint8Array(1))).toBeDefined();
  expect(check('services: {web: {image: x, env_file: /dstack/own.env}}')).toBeDefined();
});
