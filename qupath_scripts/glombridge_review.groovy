/*
 * glombridge_review.groovy - the review window.
 *
 * Does:   shows what a model proposed, one after the other over all images of the project, and writes what
 *         you decide onto the objects: class, measurements, metadata with your name and the time.
 * Needs:  QuPath 0.4 or later, no extension; a project; glombridge_shared.groovy in the same folder.
 * Tried:  its windowless part with the libraries of QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0; the window with
 *         JavaFX 11 and a stand-in for QuPath's viewer.
 * Run:    Automate > Project scripts > glombridge_review, or the menu of glombridge_setup.groovy.
 *
 * Keys, while this window has the focus: N next, P previous, A accept, X reject, U undo, E edit (unlock),
 * D grading done, S image searched; lesions by the letters on their buttons.
 */

import groovy.transform.Field
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import java.util.prefs.Preferences
import javafx.animation.Animation
import javafx.animation.KeyFrame
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
import javafx.scene.control.ListCell
import javafx.scene.control.ListView
import javafx.scene.control.ProgressBar
import javafx.scene.control.TextField
import javafx.scene.control.TextInputControl
import javafx.scene.image.ImageView
import javafx.scene.image.PixelFormat
import javafx.scene.image.WritableImage
import javafx.scene.input.InputEvent
import javafx.scene.input.KeyCode
import javafx.scene.input.KeyEvent
import javafx.scene.layout.FlowPane
import javafx.scene.layout.HBox
import javafx.scene.layout.Priority
import javafx.scene.layout.Region
import javafx.scene.layout.VBox
import javafx.stage.Stage
import javafx.util.Duration
import qupath.lib.regions.RegionRequest

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

/** All that the window asks of QuPath's user interface; a test gives another one. */
class QuPathDesk {

    private final gui
    private ChangeListener listener

    QuPathDesk() {
        // By name, so that this script can be compiled where there is no user interface.
        gui = Class.forName('qupath.lib.gui.QuPathGUI').getInstance()
        if (gui == null) {
            throw new IllegalStateException('The review window needs QuPath with its user interface, not the command line.')
        }
    }

    def getProject() {
        return gui.getProject()
    }

    Stage getStage() {
        return gui.getStage()
    }

    def getImageData() {
        return gui.getImageData()
    }

    /** Every image that is open in some viewer, by the id of its entry. */
    Map getOpenImages() {
        // getViewers() became getAllViewers() in 0.5.
        def viewers = gui.metaClass.respondsTo(gui, 'getAllViewers') ? gui.getAllViewers() : gui.getViewers()
        Map open = [:]
        viewers*.getImageData().findAll { it != null }.each { data ->
            def entry = project?.getEntry(data)
            if (entry != null) {
                open[entry.getID()] = data
            }
        }
        return open
    }

    def getEntry() {
        return imageData == null ? null : project?.getEntry(imageData)
    }

    boolean open(Object entry) {
        return gui.openImageEntry(entry) || this.entry?.getID() == entry.getID()
    }

    /** What QuPath's own 'Reload data' does. */
    void reload() {
        gui.getViewer().setImageData(entry.readImageData())
    }

    void show(Object object, double viewWidths) {
        def viewer = gui.getViewer()
        def roi = object.getROI()
        double width = Math.max(roi.getBoundsWidth(), roi.getBoundsHeight()) * viewWidths
        double screen = Math.min(viewer.getView().getWidth(), viewer.getView().getHeight())
        viewer.setZPosition(roi.getZ())
        viewer.setTPosition(roi.getT())
        viewer.setDownsampleFactor(Math.max(width / Math.max(screen, 100d), 0.1d))
        viewer.setCenterPixelLocation(roi.getCentroidX(), roi.getCentroidY())
        viewer.setSelectedObject(object)
    }

    void onImageChanged(Closure told) {
        listener = { observable, before, now -> told() } as ChangeListener
        gui.imageDataProperty().addListener(listener)
    }

    void leave() {
        if (listener != null) {
            gui.imageDataProperty().removeListener(listener)
        }
    }

}

/** Small pictures of objects, read in the background, also from images that are not open. */
class Thumbnails {

    static final int SIDE_PX = 56
    private static final int KEPT = 2000

    private final project
    // One thread: not every reader of slides can be asked by several at once.
    private final ExecutorService worker = Executors.newSingleThreadExecutor { task ->
        Thread thread = new Thread(task, 'glombridge thumbnails')
        thread.daemon = true
        return thread
    }
    private final Map<String, WritableImage> pictures = new LinkedHashMap<String, WritableImage>(64, 0.75f, true) {

        @Override
        protected boolean removeEldestEntry(Map.Entry eldest) {
            return size() > KEPT
        }

    }
    private final Set<String> asked = []
    private final Map servers = [:]

    Thumbnails(Object project) {
        this.project = project
    }

    /** The picture, or null: then `arrived` is called when it is there. Called by the FX thread only. */
    WritableImage of(Map item, Closure arrived) {
        String key = item.entry + item.id
        if (pictures.containsKey(key)) {
            return pictures[key]
        }
        if (asked.add(key)) {
            worker.submit {
                WritableImage picture = read(item)
                Platform.runLater {
                    pictures[key] = picture
                    arrived()
                }
            }
        }
        return null
    }

    void close() {
        worker.submit { servers.values().findAll { it != null }.each { it.close() } }
        worker.shutdown()
    }

    private WritableImage read(Map item) {
        try {
            def server = servers.computeIfAbsent(item.entry) { id ->
                project.getImageList().find { it.getID() == id }.getServerBuilder().build()
            }
            double side = Math.max(item.width, item.height) * 1.4
            int x = Math.max(0, (int) (item.x + item.width / 2 - side / 2))
            int y = Math.max(0, (int) (item.y + item.height / 2 - side / 2))
            int w = Math.min((int) Math.ceil(side), server.getWidth() - x)
            int h = Math.min((int) Math.ceil(side), server.getHeight() - y)
            def request = RegionRequest.createInstance(server.getPath(), Math.max(1d, side / SIDE_PX), x, y, w, h, item.z, item.t)
            def region = server.readRegion(request)
            int[] argb = region.getRGB(0, 0, region.getWidth(), region.getHeight(), null, 0, region.getWidth())
            WritableImage picture = new WritableImage(region.getWidth(), region.getHeight())
            picture.getPixelWriter().setPixels(0, 0, region.getWidth(), region.getHeight(),
                PixelFormat.getIntArgbInstance(), argb, 0, region.getWidth())
            return picture
        } catch (Exception | LinkageError error) {
            // A slide that is not reachable must not stop the review: the row then has no picture.
            org.slf4j.LoggerFactory.getLogger('glombridge').warn("No thumbnail of ${item.image}: ${error}")
            return null
        }
    }

}

/** The window itself. All of it runs on JavaFX's thread; only images that are not open are read elsewhere. */
class ReviewWindow {

    static final String KEY = 'glombridge.review'
    static final List<String> SHOWN = ['to judge', 'to grade', 'judged', 'everything']

    private final desk
    private final shared
    private final Map parameters
    private final project
    private final scheme
    private final decisions
    private final queue
    private final clock
    private final Thumbnails thumbnails
    private final Stage stage = new Stage()
    private final List<Map> undo = []
    private List<Map> items = []
    private watch
    private watchedData
    private int unsaved = 0
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
    private final Timeline everySecond = new Timeline(new KeyFrame(Duration.seconds(1), { event -> look() } as EventHandler))

    ReviewWindow(Object desk, Object shared, Map parameters) {
        this.desk = desk
        this.shared = shared
        this.parameters = parameters
        project = desk.project
        scheme = shared.scheme(project.getPath().getParent())
        decisions = shared.decisions(scheme)
        queue = shared.queue(scheme)
        clock = shared.clock(parameters.idleMinutes)
        thumbnails = new Thumbnails(project)
    }

    void open() {
        stage.setTitle('Review - glombridge (research use)')
        if (desk.stage != null) {
            stage.initOwner(desk.stage)
            desk.stage.getProperties().put(KEY, stage)
            desk.stage.getScene().addEventFilter(InputEvent.ANY, touched)
        }
        Scene scene = new Scene(contents(), 460, 820)
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
        watchImage()
        load()
        stage.show()
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
        list.setCellFactory { new Row(this) }
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
        shown.getItems().setAll(scheme.lesions ? SHOWN : SHOWN - 'to grade')
        shown.setValue('to judge')
        [image, shown, reason].each {
            it.setFocusTraversable(false)
            it.setMaxWidth(Double.MAX_VALUE)
            HBox.setHgrow(it, Priority.ALWAYS)
            it.valueProperty().addListener({ o, before, value -> refilter() } as ChangeListener)
        }
        [lowest, highest].each {
            it.setPrefColumnCount(3)
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
        parts.each { box.getChildren().add(it) }
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
        return queue.items(entry.getID(), entry.getImageName(), hierarchy.getAllObjects(false))
    }

    private void loaded(Map<String, List<Map>> found, List<String> failed) {
        items = queue.sorted(found.values().flatten())
        isMoving = true
        image.getItems().setAll(['all images'] + project.getImageList().findAll { found[it.getID()] }*.getImageName().unique())
        image.setValue('all images')
        reason.getItems().setAll(['any'] + items*.reason.findAll { it }.unique().sort())
        reason.setValue('any')
        isMoving = false
        say(failed ? "Could not be read and are left out: ${failed.join('; ')}" : '', !failed.isEmpty())
        refilter()
        list.requestFocus()
    }

    private void refilter() {
        if (isMoving) {
            return
        }
        Double from = number(lowest.getText())
        Double to = number(highest.getText())
        List<Map> visible = items.findAll { item ->
            isShown(item) && (image.getValue() in [null, 'all images', item.image]) &&
                (reason.getValue() in [null, 'any', item.reason]) &&
                (from == null || (item.confidence ?: 0) >= from) && (to == null || (item.confidence ?: 0) <= to)
        }
        Map before = list.getSelectionModel().getSelectedItem()
        isMoving = true
        list.setItems(FXCollections.observableArrayList(visible))
        isMoving = false
        count()
        Map wanted = visible.find { it.entry == before?.entry && it.id == before?.id } ?:
            visible.find { it.entry == desk.entry?.getID() && isOpen(it) } ?: (visible ? visible[0] : null)
        if (wanted == null) {
            show(null)
        } else {
            list.getSelectionModel().select(wanted)
        }
    }

    private boolean isShown(Map item) {
        switch (shown.getValue()) {
            case 'to judge': return item.state == 'proposed'
            case 'to grade': return item.state in ['proposed', 'accepted']
            case 'judged': return item.state != 'proposed'
            default: return true
        }
    }

    /** Whether something is still to be done, as the filter understands it. */
    private boolean isOpen(Map item) {
        return shown.getValue() == 'to grade' ? item.state in ['proposed', 'accepted'] : item.state == 'proposed'
    }

    private static Double number(String text) {
        return text?.trim()?.replace(',', '.')?.isDouble() ? text.trim().replace(',', '.') as Double : null
    }

    private void count() {
        List<Map> chosen = items.findAll { image.getValue() in [null, 'all images', it.image] }
        int left = chosen.count { it.state == 'proposed' }
        int graded = chosen.count { it.state == 'graded' }
        int wanted = chosen.count { it.state != 'rejected' }
        String grading = scheme.lesions ? ", ${graded} of ${wanted} graded" : ''
        counts.setText("${chosen.size() - left} judged, ${left} left${grading}")
        int done = scheme.lesions ? graded + chosen.count { it.state == 'rejected' } : chosen.size() - left
        progress.setProgress(chosen ? done / chosen.size() : 0d)
    }

    // Moving.

    private void step(int by, boolean onlyOpen = false) {
        int at = list.getSelectionModel().getSelectedIndex()
        for (int to = at + by; to >= 0 && to < list.getItems().size(); to += by) {
            if (!onlyOpen || isOpen(list.getItems()[to])) {
                list.getSelectionModel().select(to)
                list.scrollTo(Math.max(0, to - 2))
                return
            }
        }
        say(by > 0 ? 'This was the last one of this list.' : 'This is the first one of this list.')
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
            watchImage()
            if (!isThere) {
                say("Image '${item.image}' could not be opened.", true)
                return null
            }
        }
        def object = find(item.id)
        if (object == null) {
            say('This object is no longer in the image: it was deleted, or withdrawn by a push.', true)
            return null
        }
        desk.show(object, parameters.viewWidths)
        return object
    }

    private Object find(String id) {
        return desk.imageData?.getHierarchy()?.getAllObjects(false)?.find { it.getID().toString() == id }
    }

    private void describe(Map item) {
        now.setText(item == null ? '' : [item.className, item.confidence == null ? null : "confidence ${rounded(item.confidence)}",
            item.reason, item.reader ? "by ${item.reader}" : null,].findAll { it }.join(' - '))
        scheme.lesions.each { lesion ->
            Double value = item?.lesions?.get(lesion.name)
            String text = "${lesion.key}  ${lesion.name}"
            lesions[lesion.name].setText(value == null ? text : "${text}  ${value as int}")
            lesions[lesion.name].setStyle(value ? "-fx-base: ${lesion.color ?: '#4477AA'}" : '')
        }
        searched.setText(desk.entry != null && shared.images.isSearched(desk.entry) ? 'S  Image is searched \u2713' : 'S  Image searched')
    }

    static String rounded(Double value) {
        return String.format(Locale.ROOT, '%.2f', value)
    }

    // Deciding.

    private void decide(Map said = [:], String what) {
        Map item = list.getSelectionModel().getSelectedItem()
        if (item == null) {
            say('Choose an object in the list first.')
            return
        }
        if (desk.entry?.getID() != item.entry) {
            // Never a decision on what is not seen.
            show(item)
            return
        }
        def object = find(item.id)
        if (object == null || isStrange()) {
            show(item)
            look()
            return
        }
        try {
            def seconds = clock.take()
            Map before = decisions.decide(said + [reader: reader.getText(), seconds: seconds], object, what)
            undo << [entry: item.entry, id: item.id, before: before]
        } catch (IllegalArgumentException | IllegalStateException error) {
            say(error.message, true)
            return
        }
        say(what == 'edit' ? 'Unlocked: change the outline in the viewer, then come back and press A or a lesion.' : '')
        written(item, object)
        if (goOn.isSelected() && what in ['accept', 'reject', 'graded']) {
            step(1, true)
        }
    }

    private void grade(Map lesion) {
        Map item = list.getSelectionModel().getSelectedItem()
        int value = (item?.lesions?.get(lesion.name) ?: 0) as int
        decide('lesion', name: lesion.name, value: value >= lesion.max ? 0 : value + 1)
    }

    private void takeBack() {
        if (!undo) {
            say('Nothing to undo since this window was opened.')
            return
        }
        Map last = undo[-1]
        Map item = items.find { it.entry == last.entry && it.id == last.id }
        if (!list.getItems().contains(item)) {
            list.getItems().add(0, item)
        }
        list.getSelectionModel().select(item)
        list.scrollTo(item)
        def object = desk.entry?.getID() == item.entry && !isStrange() ? find(item.id) : null
        if (object == null) {
            look()
            return
        }
        undo.pop()
        decisions.restore(object, last.before)
        written(item, object)
        say('Taken back.')
    }

    private void written(Map item, Object object) {
        def hierarchy = desk.imageData.getHierarchy()
        hierarchy.fireObjectClassificationsChangedEvent(this, [object])
        hierarchy.fireObjectMeasurementsChangedEvent(this, [object])
        desk.imageData.setChanged(true)
        List<Map> fresh = queue.items(item.entry, item.image, [object])
        if (fresh) {
            item.putAll(fresh[0])
        }
        list.refresh()
        describe(item)
        count()
        unsaved++
        if (unsaved >= parameters.saveAfterDecisions) {
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

    private void watchImage() {
        watchedData = desk.imageData
        watch = desk.entry == null ? null : shared.watch(shared.images.stamp(desk.entry))
        unsaved = 0
    }

    private boolean isStrange() {
        return watch != null && desk.entry != null && watchedData.is(desk.imageData) &&
            watch.isStrange(shared.images.stamp(desk.entry), desk.imageData.isChanged())
    }

    private void look() {
        if (isStrange()) {
            say("The data of '${desk.entry.getImageName()}' was changed on disk by something else, for example a push. " +
                'Nothing is saved over it. Reload the image; what you did in it since its last save is then to be done again.',
                true, true)
        }
    }

    /** Saves the open image as QuPath does; false and a message where that would overwrite something. */
    private boolean save() {
        def entry = desk.entry
        if (unsaved == 0 || entry == null || !watchedData.is(desk.imageData)) {
            return true
        }
        if (isStrange()) {
            look()
            return false
        }
        try {
            String opened = shared.images.save(entry, desk.imageData, watch.opened)
            watch = shared.watch(opened)
            unsaved = 0
            return true
        } catch (IOException | IllegalStateException error) {
            say("'${entry.getImageName()}' was not saved: ${error.message}", true)
            return false
        }
    }

    private void reloadImage() {
        undo.removeAll { it.entry == desk.entry?.getID() }
        desk.reload()
        say('')
    }

    private void imageChanged() {
        if (isMoving) {
            return
        }
        // Opened, reloaded or closed in QuPath itself: what this window knows of the image may be old.
        watchImage()
        def entry = desk.entry
        if (entry != null) {
            items = queue.sorted(items.findAll { it.entry != entry.getID() } + itemsOf(entry, desk.imageData.getHierarchy()))
            refilter()
        }
    }

}

/** One row of the list: picture, rank, confidence, reason, what became of it. */
class Row extends ListCell<Map> {

    private static final Map<String, String> SIGNS = [proposed: '', accepted: '\u2713', graded: '\u2713\u2713', rejected: '\u2717']

    private final window
    private final ImageView picture = new ImageView()
    private final Label head = new Label()
    private final Label below = new Label()
    private final HBox box

    Row(Object window) {
        this.window = window
        picture.setFitWidth(Thumbnails.SIDE_PX)
        picture.setFitHeight(Thumbnails.SIDE_PX)
        picture.setPreserveRatio(true)
        head.setStyle('-fx-font-weight: bold')
        HBox frame = new HBox(picture)
        frame.setMinSize(Thumbnails.SIDE_PX, Thumbnails.SIDE_PX)
        VBox text = new VBox(2, head, below)
        text.setAlignment(Pos.CENTER_LEFT)
        HBox.setHgrow(text, Priority.ALWAYS)
        box = new HBox(10, frame, text)
        box.setAlignment(Pos.CENTER_LEFT)
        setPrefWidth(0)
    }

    @Override
    protected void updateItem(Map item, boolean isEmpty) {
        super.updateItem(item, isEmpty)
        setText(null)
        setGraphic(isEmpty || item == null ? null : box)
        if (isEmpty || item == null) {
            return
        }
        picture.setImage(window.thumbnails.of(item) { window.list.refresh() })
        String rank = item.rank == null ? '' : "${item.rank as int}.  "
        String confidence = item.confidence == null ? '' : "  ${ReviewWindow.rounded(item.confidence)}"
        head.setText("${rank}${item.className}${confidence}  ${SIGNS[item.state]}")
        below.setText([item.image, item.reason].findAll { it }.join(' - '))
        box.setOpacity(item.state == 'proposed' ? 1d : 0.6d)
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
shared.requireQuPath()

Platform.runLater {
    def desk = binding.variables['glombridge.desk'] ?: new QuPathDesk()
    def open = desk.stage?.getProperties()?.get(ReviewWindow.KEY)
    if (open != null) {
        open.toFront()
        open.requestFocus()
    } else if (desk.project == null) {
        throw new IllegalStateException('Open a project first: the review window goes through the images of a project.')
    } else {
        new ReviewWindow(desk, shared, PARAMETERS).open()
    }
}
