/*
 * glombridge_review.groovy - the review window.
 *
 * Does:   shows what a model proposed, one after the other over all images of the project, and writes what
 *         you decide onto the objects: class, measurements, metadata with your name and the time.
 * Needs:  QuPath 0.4 or later, no extension; a project; glombridge_shared, glombridge_walk and glombridge_viewer
 *         in the same folder.
 * Tried:  the window in QuPath 0.4.4 and 0.5.1, built from their sources with JavaFX 11; its windowless part with the libraries
 *         of QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0.
 * Run:    the menu of glombridge_setup.groovy, or Automate > Project scripts > glombridge review, then Run.
 *
 * Keys, while this window has the focus: N next, P previous, A accept, X reject, U undo, E edit (unlock),
 * D grading done, S image searched; lesions by the letters on their buttons.
 */

import groovy.transform.Field
import java.util.prefs.Preferences
import javafx.animation.Animation
import javafx.animation.KeyFrame
import javafx.animation.PauseTransition
import javafx.animation.Timeline
import javafx.application.Platform
import javafx.beans.value.ChangeListener
import javafx.collections.FXCollections
import javafx.event.EventHandler
import javafx.geometry.Insets
import javafx.geometry.Pos
import javafx.scene.Scene
import javafx.scene.control.Button
import javafx.scene.control.CheckBox
import javafx.scene.control.ComboBox
import javafx.scene.control.Label
import javafx.scene.control.ListView
import javafx.scene.control.ProgressBar
import javafx.scene.control.TextField
import javafx.scene.control.TextInputControl
import javafx.scene.input.InputEvent
import javafx.scene.input.KeyCode
import javafx.scene.input.KeyEvent
import javafx.scene.layout.FlowPane
import javafx.scene.layout.HBox
import javafx.scene.layout.Priority
import javafx.scene.layout.Region
import javafx.scene.layout.VBox
import javafx.stage.Screen
import javafx.stage.Stage
import javafx.util.Duration

// Parameters.

@Field final Map PARAMETERS = [
    // Your name as it is written with each decision; empty = the one in the project's glombridge/reader.txt, or
    // else typed into the window once and remembered.
    reader: '',
    // Whether the next object comes up by itself after accept, reject and grading done.
    goOn: true,
    // How wide the viewer shows, in widths of the object.
    viewWidths: 4.0d,
    // After this long without a key or the mouse the clock stands still.
    idleMinutes: 10.0d,
    // An image is saved when you leave it or close the window, and after this many decisions in it.
    saveAfterDecisions: 25,
]

/** The window itself. All of it runs on JavaFX's thread; only images that are not open are read elsewhere. */
class ReviewWindow {

    static final String KEY = 'glombridge.review'
    private static final double WIDTH = 460
    private static final double HEIGHT = 820

    private final desk
    private final shared
    private final Map parameters
    private final project
    private final scheme
    private final walk
    private final clock
    private final viewer
    private final opened
    private final thumbnails
    private final Stage stage = new Stage()
    private boolean isMoving = false

    private final TextField reader = new TextField()
    private final Label counts = new Label()
    private final ProgressBar progress = new ProgressBar(0)
    private final ComboBox<String> image = new ComboBox<>()
    private final ComboBox<String> shown = new ComboBox<>()
    private final ComboBox<String> reason = new ComboBox<>()
    private final TextField lowest = new TextField()
    private final TextField highest = new TextField()
    private final CheckBox goOn = new CheckBox('Go on by itself')
    private final ListView<Map> list = new ListView<>()
    private final Label now = new Label()
    private final Label message = new Label()
    private final Button reload = new Button('Reload this image')
    private final Button searched = new Button()
    private final Map<String, Button> lesions = [:]
    private final EventHandler<InputEvent> touched = { event -> clock.touch() } as EventHandler
    // Keys that were pressed while an image opened reach the window before she can have seen it.
    private final PauseTransition unseen = new PauseTransition(Duration.millis(300))
    private final Timeline everySecond = new Timeline(new KeyFrame(Duration.seconds(1), { event -> look() } as EventHandler))

    ReviewWindow(Object desk, Map scripts, Map parameters) {
        this.desk = desk
        shared = scripts.shared
        this.parameters = parameters
        project = desk.project
        scheme = shared.scheme(project.getPath().getParent())
        walk = scripts.walk.walk(scheme)
        clock = shared.clock(parameters.idleMinutes)
        viewer = scripts.viewer
        opened = viewer.openImage(desk)
        thumbnails = viewer.thumbnails(project)
    }

    void open() {
        stage.setTitle('Review - glombridge (research use)')
        if (desk.stage != null) {
            stage.initOwner(desk.stage)
            desk.stage.getProperties().put(KEY, stage)
            desk.stage.getScene().addEventFilter(InputEvent.ANY, touched)
        }
        Scene scene = new Scene(contents(), WIDTH, HEIGHT)
        scene.addEventFilter(InputEvent.ANY, touched)
        scene.addEventFilter(KeyEvent.KEY_PRESSED, { event -> pressed(event) } as EventHandler)
        stage.setScene(scene)
        stage.setOnCloseRequest { event ->
            if (!save()) {
                event.consume()
            }
        }
        stage.setOnHidden { closed() }
        desk.onImageChanged { imageChanged() }
        everySecond.setCycleCount(Animation.INDEFINITE)
        everySecond.play()
        opened.begin()
        load()
        place()
        stage.show()
    }

    /** Beside the viewer: right of QuPath's window where the screen has room, else over its left side. */
    private void place() {
        Stage qupath = desk.stage
        if (qupath == null) {
            return
        }
        def screens = Screen.getScreensForRectangle(qupath.getX(), qupath.getY(), qupath.getWidth(), qupath.getHeight())
        def room = (screens ? screens[0] : Screen.getPrimary()).getVisualBounds()
        double right = qupath.getX() + qupath.getWidth()
        stage.setX(right + WIDTH <= room.getMaxX() ? right : Math.max(qupath.getX(), room.getMinX()))
        stage.setY(Math.max(room.getMinY(), Math.min(qupath.getY(), room.getMaxY() - HEIGHT)))
    }

    private void closed() {
        everySecond.stop()
        thumbnails.close()
        desk.leave()
        if (desk.stage != null) {
            desk.stage.getProperties().remove(KEY)
            desk.stage.getScene().removeEventFilter(InputEvent.ANY, touched)
        }
    }

    // What it looks like.

    private VBox contents() {
        reader.setText(parameters.reader ?: shared.readerOf(project.getPath().getParent()) ?: preferences().get('reader', ''))
        reader.setPromptText('your name')
        reader.setPrefColumnCount(12)
        reader.textProperty().addListener({ o, before, text -> preferences().put('reader', text.trim()) } as ChangeListener)
        goOn.setSelected(parameters.goOn)
        goOn.setFocusTraversable(false)
        Label title = new Label(scheme.lesions ? "Scheme: ${scheme.title}" : 'No grading scheme')
        title.setStyle('-fx-text-fill: derive(-fx-text-base-color, 35%)')
        progress.setMaxWidth(Double.MAX_VALUE)
        list.setCellFactory { viewer.row(walk, thumbnails) { list.refresh() } }
        list.setPlaceholder(new Label('Nothing to show with these filters.'))
        list.getSelectionModel().selectedItemProperty().addListener({ o, before, item -> show(item) } as ChangeListener)
        VBox.setVgrow(list, Priority.ALWAYS)
        now.setStyle('-fx-font-weight: bold')
        now.setWrapText(true)
        message.setWrapText(true)
        reload.setOnAction { reloadImage() }
        reload.setFocusTraversable(false)
        // What is said must never be cut, and is what the list gives way to.
        message.setMinHeight(Region.USE_PREF_SIZE)
        now.setMinHeight(Region.USE_PREF_SIZE)
        progress.setMinHeight(14)
        say('')
        VBox box = new VBox(8, row(new Label('Reader'), reader, space(), goOn), title, filters(), counts, progress,
            list, now, decisionButtons(), lesionButtons(), message, reload)
        box.setPadding(new Insets(10))
        return box
    }

    private VBox filters() {
        offer(shown, walk.choices)
        [image, shown, reason].each {
            it.setFocusTraversable(false)
            // Long reasons and names give way to what stands beside them.
            it.setMinWidth(60)
            it.setPrefWidth(60)
            it.setMaxWidth(Double.MAX_VALUE)
            HBox.setHgrow(it, Priority.ALWAYS)
            it.valueProperty().addListener({ o, before, value -> refilter() } as ChangeListener)
        }
        [lowest, highest].each {
            it.setPrefColumnCount(3)
            it.setMinWidth(Region.USE_PREF_SIZE)
            it.textProperty().addListener({ o, before, value -> refilter() } as ChangeListener)
        }
        lowest.setPromptText('0.0')
        highest.setPromptText('1.0')
        return new VBox(6, row(new Label('Show'), shown, new Label('of'), image),
            row(new Label('Reason'), reason, new Label('Confidence'), lowest, new Label('to'), highest))
    }

    private FlowPane decisionButtons() {
        FlowPane pane = new FlowPane(6, 6)
        pane.getChildren().addAll(
            button('P', 'Previous') { step(-1) }, button('N', 'Next') { step(1) },
            button('A', 'Accept') { decide('accept') }, button('X', 'Reject') { decide('reject') },
            button('E', 'Edit outline') { decide('edit') }, button('U', 'Undo') { takeBack() })
        searched.setOnAction { markSearched() }
        searched.setFocusTraversable(false)
        pane.getChildren().add(searched)
        return pane
    }

    private FlowPane lesionButtons() {
        FlowPane pane = new FlowPane(6, 6)
        scheme.lesions.each { lesion ->
            lesions[lesion.name] = button(lesion.key, lesion.name) { grade(lesion) }
            pane.getChildren().add(lesions[lesion.name])
        }
        if (scheme.lesions) {
            pane.getChildren().addAll(button('D', 'Grading done') { decide('graded') },
                button('', 'Take grading away') { decide('ungrade') })
        }
        return pane
    }

    private Button button(String key, String text, Closure action) {
        Button made = new Button(key ? "${key}  ${text}" : text)
        made.setOnAction { action() }
        // With the focus on a button, Space and Enter would press it.
        made.setFocusTraversable(false)
        return made
    }

    private static HBox row(Object... parts) {
        HBox box = new HBox(6)
        box.setAlignment(Pos.CENTER_LEFT)
        parts.each {
            box.getChildren().add(it)
            if (it instanceof Label) {
                it.setMinWidth(Region.USE_PREF_SIZE)
            }
        }
        return box
    }

    private static Region space() {
        Region region = new Region()
        HBox.setHgrow(region, Priority.ALWAYS)
        return region
    }

    private static Preferences preferences() {
        return Preferences.userRoot().node('glombridge')
    }

    private void say(String text, boolean isWarning = false, boolean canReload = false) {
        message.setText(text)
        message.setStyle(isWarning ? '-fx-text-fill: #b00020; -fx-font-weight: bold' : '')
        reload.setVisible(canReload)
        reload.setManaged(canReload)
    }

    // Keys.

    private void pressed(KeyEvent event) {
        if (event.isShortcutDown() || event.isControlDown() || event.isAltDown() || event.isMetaDown()) {
            return
        }
        if (stage.getScene().getFocusOwner() instanceof TextInputControl) {
            // She is typing; Enter and Escape give the keys back to reviewing.
            if (event.getCode() in [KeyCode.ENTER, KeyCode.ESCAPE]) {
                list.requestFocus()
                event.consume()
            }
            return
        }
        // The digits of the number block count as digits.
        String key = event.getCode().isDigitKey() ? event.getCode().getName()[-1] : event.getCode().getName().toUpperCase()
        Map actions = [N: { step(1) }, P: { step(-1) }, A: { decide('accept') }, X: { decide('reject') },
            U: { takeBack() }, E: { decide('edit') }, D: { decide('graded') }, S: { markSearched() },]
        Map lesion = scheme.lesions.find { it.key.toUpperCase() == key }
        if (lesion != null) {
            grade(lesion)
        } else if (actions.containsKey(key)) {
            actions[key]()
        } else {
            return
        }
        event.consume()
    }

    // The queue.

    private void load() {
        say('Reading the images of the project ...')
        Map open = desk.openImages
        Map<String, List<Map>> found = [:]
        List others = []
        project.getImageList().each { entry ->
            if (open.containsKey(entry.getID())) {
                found[entry.getID()] = itemsOf(entry, open[entry.getID()].getHierarchy())
            } else {
                others << entry
            }
        }
        Thread.startDaemon('glombridge queue') {
            List<String> failed = []
            others.each { entry ->
                try {
                    found[entry.getID()] = entry.hasImageData() ? itemsOf(entry, entry.readHierarchy()) : []
                } catch (Exception error) {
                    failed << "${entry.getImageName()} (${error.message})"
                }
            }
            Platform.runLater { loaded(found, failed) }
        }
    }

    private List<Map> itemsOf(Object entry, Object hierarchy) {
        return walk.queue.items(entry.getID(), entry.getImageName(), hierarchy.getAllObjects(false))
    }

    private void loaded(Map<String, List<Map>> found, List<String> failed) {
        boolean isFirst = walk.items.isEmpty()
        found.each { entry, items -> walk.replace(entry, items) }
        isMoving = true
        offer(image, ['all images'] + project.getImageList().findAll { found[it.getID()] }*.getImageName().unique())
        offer(reason, ['any'] + walk.items*.kind.findAll { it }.unique().sort())
        offer(shown, walk.choices, isFirst ? walk.firstChoice : shown.getValue())
        isMoving = false
        say(failed ? "Could not be read and are left out: ${failed.join('; ')}" : '', !failed.isEmpty())
        refilter()
        list.requestFocus()
    }

    private static void offer(ComboBox<String> box, List<String> choices, String chosen = box.getValue()) {
        box.getItems().setAll(choices)
        box.setValue(chosen in choices ? chosen : choices[0])
    }

    private void refilter() {
        if (isMoving) {
            return
        }
        walk.filter.putAll(shown: shown.getValue(), image: image.getValue() == 'all images' ? null : image.getValue(),
            kind: reason.getValue() == 'any' ? null : reason.getValue(), lowest: number(lowest.getText()), highest: number(highest.getText()))
        List<Map> visible = walk.visible
        Map before = list.getSelectionModel().getSelectedItem()
        Map wanted = visible.find { it.entry == before?.entry && it.id == before?.id } ?:
            visible.find { it.entry == desk.entry?.getID() && walk.isOpen(it) } ?: (visible ? visible[0] : null)
        isMoving = true
        list.setItems(FXCollections.observableArrayList(visible))
        if (wanted != null) {
            list.getSelectionModel().select(wanted)
            list.scrollTo(Math.max(0, visible.indexOf(wanted) - 2))
        }
        isMoving = false
        count()
        // Not left to the list: it says nothing where the same row is chosen again.
        show(wanted)
    }

    private static Double number(String text) {
        return text?.trim()?.replace(',', '.')?.isDouble() ? text.trim().replace(',', '.') as Double : null
    }

    private void count() {
        Map said = walk.counts
        counts.setText(said.text)
        progress.setProgress(said.done)
    }

    // Moving.

    private void step(int by, boolean onlyOpen = false) {
        int to = walk.next(list.getItems(), list.getSelectionModel().getSelectedIndex(), by, onlyOpen)
        if (to < 0) {
            say(by > 0 ? 'This was the last one of this list.' : 'This is the first one of this list.')
            return
        }
        list.getSelectionModel().select(to)
        list.scrollTo(Math.max(0, to - 2))
    }

    private void show(Map item) {
        if (isMoving) {
            return
        }
        if (item != null && bringUp(item) != null) {
            say('')
        }
        clock.start()
        describe(item)
    }

    /** The object of a row in the viewer; null and a message where that cannot be. */
    private Object bringUp(Map item) {
        if (desk.project != project) {
            say('Another project is open now. Close this window and run the script again.', true)
            return null
        }
        if (desk.entry?.getID() != item.entry) {
            def entry = project.getImageList().find { it.getID() == item.entry }
            if (entry == null) {
                say("Image '${item.image}' is no longer in the project.", true)
                return null
            }
            if (!save()) {
                return null
            }
            isMoving = true
            boolean isThere = desk.open(entry)
            isMoving = false
            opened.begin()
            unseen.playFromStart()
            if (!isThere) {
                say("Image '${item.image}' could not be opened.", true)
                return null
            }
        }
        def object = walk.find(objects, item.id)
        if (object == null) {
            say('This object is no longer in the image: it was deleted, or withdrawn by a push.', true)
            return null
        }
        desk.show(object, parameters.viewWidths, walk.isSign(item) ? walk.queue.judgedBy(object, objects) ?: object : object)
        return object
    }

    private Collection getObjects() {
        return desk.imageData?.getHierarchy()?.getAllObjects(false) ?: []
    }

    private void describe(Map item) {
        now.setText(item == null ? '' : walk.inWords(item))
        scheme.lesions.each { lesion ->
            Double value = item?.lesions?.get(lesion.name)
            String text = "${lesion.key}  ${lesion.name}"
            lesions[lesion.name].setText(value == null ? text : "${text}  ${value as int}")
            lesions[lesion.name].setStyle(value ? "-fx-base: ${lesion.color ?: '#4477AA'}" : '')
        }
        searched.setText(desk.entry != null && shared.images.isSearched(desk.entry) ? 'S  Image is searched \u2713' : 'S  Image searched')
    }

    // Deciding.

    private void decide(Map said = [:], String what) {
        Map item = list.getSelectionModel().getSelectedItem()
        if (item == null) {
            say('Choose an object in the list first.')
            return
        }
        if (desk.entry?.getID() != item.entry || walk.find(objects, item.id) == null || opened.isStrange()) {
            // Never a decision on what is not seen.
            show(item)
            look()
            return
        }
        if (isUnseen()) {
            return
        }
        List changed
        try {
            changed = walk.decide(said + [reader: reader.getText(), seconds: clock.take()], item, objects, what)
        } catch (IllegalArgumentException | IllegalStateException error) {
            say(error.message, true)
            return
        }
        say(what == 'edit' ? 'Unlocked: change the outline in the viewer, then come back and press A or a lesion.' : '')
        written(item, changed)
        if (goOn.isSelected() && what in ['accept', 'reject', 'graded']) {
            step(1, true)
        }
    }

    private boolean isUnseen() {
        boolean hasOnlyOpened = unseen.getStatus() == Animation.Status.RUNNING
        if (hasOnlyOpened) {
            say('Another image has just come up. Look at it, then press the key again.', true)
        }
        return hasOnlyOpened
    }

    private void grade(Map lesion) {
        Map item = list.getSelectionModel().getSelectedItem()
        int value = (item?.lesions?.get(lesion.name) ?: 0) as int
        decide('lesion', name: lesion.name, value: value >= lesion.max ? 0 : value + 1)
    }

    private void takeBack() {
        Map last = walk.last
        if (last == null) {
            say('Nothing to undo since this window was opened.')
            return
        }
        Map item = walk.items.find { it.entry == last.entry && it.id == last.id } ?: last
        if (!list.getItems().contains(item)) {
            list.getItems().add(0, item)
        }
        list.getSelectionModel().select(item)
        list.scrollTo(item)
        List changed = desk.entry?.getID() == item.entry && !opened.isStrange() ? walk.takeBack(objects) : []
        if (!changed) {
            look()
            return
        }
        written(item, changed)
        say('Taken back.')
    }

    private void written(Map item, List changed) {
        def hierarchy = desk.imageData.getHierarchy()
        hierarchy.fireObjectClassificationsChangedEvent(this, changed)
        hierarchy.fireObjectMeasurementsChangedEvent(this, changed)
        list.refresh()
        describe(item)
        count()
        if (opened.changed() >= parameters.saveAfterDecisions) {
            save()
        }
    }

    private void markSearched() {
        def entry = desk.entry
        if (entry == null) {
            say('Open an image of the project first.')
            return
        }
        try {
            boolean isSearched = !shared.images.isSearched(entry)
            shared.images.mark(project, entry, reader.getText(), isSearched)
            say(isSearched ? "Every glomerulus of '${entry.getImageName()}' is marked. S again takes this back." :
                "'${entry.getImageName()}' is no longer said to be searched.")
        } catch (IllegalArgumentException error) {
            say(error.message, true)
        }
        describe(list.getSelectionModel().getSelectedItem())
    }

    // Saving.

    private void look() {
        if (opened.isStrange()) {
            say("The data of '${desk.entry.getImageName()}' was changed on disk by something else, for example a push. " +
                'Nothing is saved over it. Reload the image; what you did in it since its last save is then to be done again.',
                true, true)
        }
    }

    /** Saves the open image as QuPath does; false and a message where that would overwrite something. */
    private boolean save() {
        if (opened.isSaved()) {
            return true
        }
        if (opened.isStrange()) {
            look()
            return false
        }
        try {
            opened.save()
            return true
        } catch (IOException | IllegalStateException error) {
            say("'${desk.entry.getImageName()}' was not saved: ${error.message}", true)
            return false
        }
    }

    private void reloadImage() {
        walk.forget(desk.entry?.getID())
        desk.reload()
        // What changed one image has most likely changed others.
        load()
    }

    private void imageChanged() {
        if (isMoving) {
            return
        }
        // Opened, reloaded or closed in QuPath itself: what this window knows of the image may be old.
        opened.begin()
        def entry = desk.entry
        if (entry != null) {
            walk.replace(entry.getID(), itemsOf(entry, desk.imageData.getHierarchy()))
            refilter()
        }
    }

}

// These lines stand in every script: they find glombridge_shared.groovy beside it, or in the open project.
@Field Object shared = null
List<File> folders = []
if (binding.variables['qupath.script.file'] != null) {
    folders << new File(binding.variables['qupath.script.file'] as String).parentFile
}
try {
    folders << Class.forName('qupath.lib.gui.QuPathGUI').getInstance()?.getProject()?.getPath()?.parent?.resolve('scripts')?.toFile()
} catch (ClassNotFoundException | LinkageError ignored) {
    // No user interface: then the script was started from its file.
}
File file = folders.findAll { it != null }.collect { new File(it, 'glombridge_shared.groovy') }.find { it.isFile() }
if (file == null) {
    throw new FileNotFoundException('glombridge_shared.groovy must lie beside this script. Run "glombridge scripts PROJECT", ' +
        'or copy the whole folder qupath_scripts into the folder "scripts" of the project.')
}
shared = new GroovyShell(this.class.classLoader).parse(file)
if (!shared.metaClass.respondsTo(shared, 'begin')) {
    throw new IllegalStateException("${file} is of an older glombridge than this script, and was left as it is because somebody changed it. " +
        "Take the newer one, which lies beside it with '.new' behind its name, and run 'glombridge scripts PROJECT' again.")
}
shared.begin(file.parentFile, 2)

Map scripts = [shared: shared, walk: shared.part('glombridge_walk.groovy'), viewer: shared.part('glombridge_viewer.groovy')]
Platform.runLater {
    def desk = scripts.viewer.desk
    def open = desk.stage?.getProperties()?.get(ReviewWindow.KEY)
    if (open != null) {
        open.toFront()
        open.requestFocus()
    } else if (desk.project == null) {
        throw new IllegalStateException('Open a project first: the review window goes through the images of a project.')
    } else {
        new ReviewWindow(desk, scripts, PARAMETERS).open()
    }
}
