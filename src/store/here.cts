/** The path of this file, in both builds: CommonJS has no `import.meta`. */
export = __filename;
