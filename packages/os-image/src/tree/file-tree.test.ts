import { expect, it } from 'vitest';
import { FileTree } from './file-tree.ts';

const paths = (tree: FileTree): string[] => [...tree.entries()].map(([path]) => path);

it('puts files below the directories that links lead to', () => {
  const tree = new FileTree();
  tree.symlink('/lib64', 'usr/lib64');
  tree.file('/lib64/ld.so', 'x');
  expect(paths(tree)).toEqual(['/', '/lib64', '/usr', '/usr/lib64', '/usr/lib64/ld.so']);
});

it('keeps a link to a directory when a package brings the directory', () => {
  const tree = new FileTree();
  tree.directory('/usr/bin');
  tree.symlink('/bin', 'usr/bin');
  tree.directory('/bin');
  expect(tree.get('/bin')?.kind).toBe('symlink');
});

it('refuses a file in the place of a directory with files, and below a file', () => {
  const tree = new FileTree();
  tree.file('/a/b', 'x');
  expect(() => tree.file('/a', 'y')).toThrow(/is a directory with files/);
  expect(() => tree.file('/a/b/c', 'y')).toThrow(/is a file/);
});

it.each(['relative', '/a/../b', '/nul\0'])('refuses the path %j', (path) => {
  expect(() => new FileTree().file(path, 'x')).toThrow(/cannot be a path/);
});

it('ends at a link that leads to itself', () => {
  const tree = new FileTree();
  tree.symlink('/a', 'b');
  tree.symlink('/b', 'a');
  expect(() => tree.file('/a/x', '')).toThrow(/leads to itself/);
});

it('cannot be left by a link', () => {
  const tree = new FileTree();
  tree.symlink('/etc', '../../../outside');
  tree.file('/etc/passwd', 'x');
  expect(paths(tree)).toEqual(['/', '/etc', '/outside', '/outside/passwd']);
});

it('removes what lies below', () => {
  const tree = new FileTree();
  tree.file('/a/b/c', 'x');
  tree.file('/ab', 'x');
  tree.remove('/a');
  expect(paths(tree)).toEqual(['/', '/ab']);
});
