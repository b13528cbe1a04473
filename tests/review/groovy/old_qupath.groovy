// Runs glombridge_shared.groovy on stand-ins for the classes of a QuPath before 0.4: objects without an id.
def loader = new GroovyClassLoader(this.class.classLoader)
['com.google.gson': ['Gson', 'GsonBuilder'], 'qupath.lib.common': ['ColorTools'], 'qupath.lib.objects': ['PathObject'],
 'qupath.lib.objects.classes': ['PathClass'],].each { folder, names ->
    names.each { name -> loader.parseClass("package ${folder}; class ${name} { String getName() { return '' } }") }
}
try {
    new GroovyShell(loader).parse(new File(args[0])).checkQuPath()
    println 'not refused'
} catch (UnsupportedOperationException error) {
    println error.message
}
